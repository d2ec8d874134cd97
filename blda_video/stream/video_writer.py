"""Pictures as a video file, and what an output's name asks for: a video or a folder."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from blda import atomic
from blda_video.clips.video_files.video_index import pyav

FORMATS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Suffix of a video that can be written -> FFmpeg's name of its format."""
LARGEST_RATE = 1000
_OTHER_FILES = {
    *[
        ".avi",
        ".webm",
        ".m4v",
        ".wmv",
        ".flv",
        ".ogv",
        ".mpg",
        ".mpeg",
        ".ts",
        ".mts",
        ".m2ts",
        ".3gp",
        ".y4m",
        ".h264",
        ".hevc",
        ".mxf",
        ".gif",
        ".apng",
        ".webp",
    ],
    *[".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".zip", ".tar", ".npz", ".npy", ".json"],
}
"""Suffixes that nobody gives a folder, of files that are not written."""


def is_film(output: Path) -> bool:
    """Tell whether an output's name is a video's rather than a folder's; ValueError for an unsupported suffix.

    A folder that exists may have any name.
    """
    suffix = output.suffix.lower()
    kind = (mimetypes.guess_type(f"a{suffix}")[0] or "").split("/")[0]
    if suffix in FORMATS or output.is_dir() or not (suffix in _OTHER_FILES or kind in ("video", "image", "audio")):
        return suffix in FORMATS
    raise ValueError(
        f"cannot write {output}: no {suffix} file is written; give {', '.join(FORMATS)} or a folder's name"
    )


def save_video(path: Path, pictures: Iterable[np.ndarray], rate: float) -> None:
    """Write pictures (H, W, 3) uint8 RGB of one size, one at a time, as an H.264 video; the file appears complete.

    A last odd row or column is repeated, because the format needs even sides. ValueError for another suffix than those
    of FORMATS, without pictures, and for pictures of several sizes.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"cannot write {path}: a video's name ends in {', '.join(FORMATS)}; without, it is a folder")
    atomic.write(path, lambda file: _encode(file, FORMATS[path.suffix.lower()], path, iter(pictures), rate))


def _encode(file: BinaryIO, form: str, path: Path, pictures: Any, rate: float) -> None:
    first = next(pictures, None)
    if first is None:
        raise ValueError(f"cannot write {path}: there are no frames")
    av, size = pyav(), first.shape
    pad = [(0, side % 2) for side in size[:2]] + [(0, 0)]
    with av.open(file, "w", format=form) as film:
        stream = film.add_stream("libx264", rate=Fraction(min(rate, LARGEST_RATE)).limit_denominator(1001))
        stream.height, stream.width = (side + more for side, (_, more) in zip(size, pad[:2], strict=False))
        stream.pix_fmt = "yuv420p"
        for picture in chain([first], pictures):
            if picture.shape != size:
                raise ValueError(
                    f"cannot write {path}: frames of {size[:2]} and of {picture.shape[:2]} (height, width) make no "
                    "video; give a folder as output"
                )
            frame = av.VideoFrame.from_ndarray(np.pad(picture, pad, mode="edge"), format="rgb24")
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
