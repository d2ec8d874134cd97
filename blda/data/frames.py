"""What a data set offers: frames with their files, and the meaning of its label ids."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Frame:
    """One image and its label file.

    name: unique in the data set, path-like, forward slashes, without extension.
    label: None for unlabelled data; then no label file is looked for, opened or needed.
    """

    name: str
    image: Path
    label: Path | None


class Reader(Protocol):
    """A data set.

    frames: in natural order of their names.
    ids: raw id in the label files -> the data set's class name; two ids may share a name.
    ignored: raw ids that are legal in the label files but stand for no class.

    A reader of video also has `neighbour(frame, offset: int) -> Frame | None`: the unlabelled frame `offset` frames
    later (earlier where negative), None past the ends of the video.
    """

    frames: tuple[Frame, ...]
    ids: Mapping[int, str]
    ignored: Collection[int]

    def read_label(self, path: Path) -> np.ndarray:
        """Raw ids (H, W), any integer type; ValueError naming the file when it cannot be read."""
        ...


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Sort key under which `frame_9` precedes `frame_10`."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"([0-9]+)", text) if part]


def existing_folder(path: str | os.PathLike[str], mend: str) -> Path:
    """`path` as a Path; FileNotFoundError with the mend when there is no such folder."""
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"no folder {path}; {mend}")
    return path


def scan(folder: str | os.PathLike[str], suffix: str, mend: str = "check the data set's root and split") -> list[str]:
    """Names of the files below `folder` that end in `suffix`: relative, without the suffix, in natural order.

    Follows links. FileNotFoundError without the folder, ValueError naming the pattern without such a file.
    """
    folder = existing_folder(folder, mend)
    names = [
        (Path(parent) / file).relative_to(folder).as_posix()[: -len(suffix)]
        for parent, _, files in os.walk(folder, followlinks=True)
        for file in files
        if file.endswith(suffix) and not file.startswith(".")
    ]
    if not names:
        raise ValueError(f"no file {folder}/**/*{suffix}; {mend}")
    return sorted(names, key=natural_key)


def read_split(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Frame names of a split file: one a line, in its order; blank lines and lines with # are left out."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no split file {path}; write one frame name a line, or leave the split out")
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    names = tuple(line for line in lines if line and not line.startswith("#"))
    if not names:
        raise ValueError(f"split file {path} names no frame; write one frame name a line")
    return names


def require(frames: Iterable[Frame], mend: str) -> tuple[Frame, ...]:
    """The frames, after checking that every image and every label file is there (names only, nothing is opened)."""
    frames = tuple(frames)
    for frame in frames:
        if not frame.image.is_file():
            raise FileNotFoundError(f"no image {frame.image}; {mend}")
        if frame.label is not None and not frame.label.is_file():
            raise FileNotFoundError(f"no label {frame.label} for image {frame.image}; {mend}")
    return frames
