"""Encode street-world frames as the files of a data set: images, labels of all kinds, videos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
from PIL import Image

from blda_video.clips.video_files.video_index import pyav
from blda_video.street_world.simulator.materials import CLASSES
from blda_video.street_world.simulator.world import WorldFrame

Save = Callable[[Path, WorldFrame], None]
"""Writes the label file of a frame."""
Colour = tuple[int, int, int]

THINGS = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
RATE = 30
_CODECS = {".webm": "libvpx-vp9", ".mpg": "mpeg2video", ".mpeg": "mpeg2video"}


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an RGB image (H, W, 3) uint8 as JPEG or PNG, by the file's ending; OSError when that is impossible."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if path.suffix != ".png" else [cv2.IMWRITE_PNG_COMPRESSION, 2]
    _write(path, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)


def raw_ids(
    ids: Mapping[int, str], instead: Mapping[str, str] = MappingProxyType({}), other: int = 0
) -> dict[str, int]:
    """Map each class of the world to a raw id of a data set.

    ids: the data set's raw id -> class name; of two ids with one name the later is written. instead: class of the world
    -> the data set's class that replaces it. other: raw id of classes that the data set lacks.
    """
    known = {name: raw for raw, name in ids.items()}
    return {name: known.get(name, known.get(instead.get(name), other)) for name in CLASSES}


def grey(ids: Mapping[str, int]) -> Save:
    """Encoder of raw ids as 8-bit grey PNG. ids: class of the world -> raw id."""
    table = _table(ids, np.uint8)

    def save(path: Path, frame: WorldFrame) -> None:
        Image.fromarray(table[frame.label]).save(path)

    return save


def indexed(ids: Mapping[str, int], palette: Sequence[Colour]) -> Save:
    """Encoder of raw ids as the indices of an 8-bit PNG with a palette."""
    table, colours = _table(ids, np.uint8), [value for colour in palette for value in colour]

    def save(path: Path, frame: WorldFrame) -> None:
        picture = Image.fromarray(table[frame.label])
        picture.putpalette(colours)
        picture.save(path)

    return save


def red(ids: Mapping[str, int]) -> Save:
    """Encoder as 16-bit colour PNG: raw ids in red, instance numbers in green, 0 in blue."""
    table, thing = _table(ids, np.uint16), np.isin(CLASSES, THINGS)

    def save(path: Path, frame: WorldFrame) -> None:
        number = np.where(thing[frame.label], frame.surface, 0).astype(np.uint16)
        _write(path, np.stack([np.zeros_like(number), number, table[frame.label]], axis=-1), [])  # blue, green, red

    return save


def coloured(colours: Mapping[str, Colour]) -> Save:
    """Encoder as 8-bit colour PNG. colours: class of the world -> (red, green, blue)."""
    table = np.array([colours[name] for name in CLASSES], np.uint8)

    def save(path: Path, frame: WorldFrame) -> None:
        Image.fromarray(table[frame.label]).save(path)

    return save


def write_video(path: Path, images: Iterable[np.ndarray]) -> None:
    """Write RGB images (H, W, 3) uint8 of even height and width as a video of 30 frames a second: H.264, or the codec
    that the file's suffix asks for. Raises ValueError naming the file when it cannot be written.
    """
    av, stream = pyav(), None
    try:
        with av.open(str(path), "w") as file:
            for image in images:
                if stream is None:
                    stream = file.add_stream(_CODECS.get(path.suffix, "libx264"), rate=RATE, options={"crf": "18"})
                    stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "yuv420p"
                file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            file.mux(stream.encode(None))
    except (av.error.FFmpegError, ValueError) as error:
        raise ValueError(f"cannot write {path} ({error}); use even sizes and a common ending such as .mp4") from error


def _table(ids: Mapping[str, int], kind: type) -> np.ndarray:
    return np.array([ids[name] for name in CLASSES], kind)


def _write(path: Path, pixels: np.ndarray, options: Sequence[int]) -> None:
    done, data = cv2.imencode(path.suffix, pixels, list(options))
    if not done:
        raise OSError(f"cannot encode {path}")
    path.write_bytes(data.tobytes())
