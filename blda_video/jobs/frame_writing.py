"""Predicted frames as files: indexed label maps in a folder, or a video of the classes' colours over the frames."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from blda import atomic
from blda.engine.class_lists import write_class_lists
from blda_video.jobs.frame_pictures import Appearance
from blda_video.jobs.frame_prediction import PredictedFrame
from blda_video.stream.video_writer import is_film, save_video

RATE = 30.0
"""Frames a second of a video whose rate is not known."""
OVERLAYS = "overlays"
"""Folder of the pictures to watch, inside a folder of label maps."""
_QUALITY = 92


def write(
    frames: Iterable[PredictedFrame],
    output: str | os.PathLike,
    rate: float | None = None,
    strength: float = 0.5,
    legend: bool = True,
    side_by_side: bool = False,
) -> Path:
    """Write predicted frames as they come, and return the path.

    output: a name that ends in .mp4, .mov or .mkv gets a video with the classes' colours over the frames, whole or not
    at all; any other is a folder that gets an indexed PNG for each frame, at its size, and the lists of classes. rate:
    frames a second, None for those of the video. strength: share of the colours. legend: with the names of the classes
    below. side_by_side: with the frame at the left.
    """
    output = Path(output)
    if is_film(output):
        look = Appearance(strength, None if legend else "none", side_by_side)
        save_video(output, map(look.of_video, frames), rate or getattr(frames, "rate", None) or RATE)
        return output
    for number, frame in enumerate(frames):
        if number == 0:
            write_class_lists(output, frame.prediction.classes, frame.prediction.colors)
        frame.prediction.save(output / f"{frame.name}.png")
    return output


def write_picture(path: Path, frame: PredictedFrame, look: Appearance) -> None:
    """Write a picture to watch as a JPEG; the file appears whole."""
    picture = Image.fromarray(look.alone(frame))
    atomic.write(path, lambda file: picture.save(file, format="jpeg", quality=_QUALITY))
