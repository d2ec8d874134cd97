"""Predicted frames as files: indexed label maps in a folder, or a video of the classes' colours over the frames."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from blda_video.jobs.frame_prediction import PredictedFrame
from blda_video.stream.video_writer import is_film, save_video

RATE = 30.0
"""Frames a second of a video whose rate is not known."""


def write(
    frames: Iterable[PredictedFrame],
    output: str | os.PathLike,
    rate: float | None = None,
    strength: float = 0.5,
    legend: bool = True,
) -> Path:
    """Write predicted frames as they come, and return the path.

    output: a name that ends in .mp4, .mov or .mkv gets a video with the classes' colours over the frames, whole or not
    at all; any other is a folder that gets an indexed PNG for each frame, at its size. rate: frames a second, None for
    those of the video. strength: share of the colours. legend: with the names of the classes below.
    """
    output = Path(output)
    if is_film(output):
        pictures = (np.asarray(frame.prediction.overlay(strength, legend)) for frame in frames)
        save_video(output, pictures, rate or getattr(frames, "rate", None) or RATE)
        return output
    for frame in frames:
        frame.prediction.save(output / f"{frame.name}.png")
    return output
