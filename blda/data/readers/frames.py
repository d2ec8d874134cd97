"""Frames with their files, the interface of a reader, and the helpers that list and check files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from blda import text
from blda.data.readers.decoding import read_image
from blda.data.readers.remarks import remark
from blda.data.readers.walk import as_stored, ends_in, files_below, other_images


@dataclass(frozen=True)
class Frame:
    """One image and its label file.

    name: unique in the data set, path-like, forward slashes, without extension.
    label: None for unlabelled data; then no label file is looked for, opened or needed.
    """

    name: str
    image: Path
    label: Path | None

    def read(self) -> np.ndarray:
        """Read the pixels (H, W, 3) uint8 RGB. A frame that is not an image file of its own overrides this."""
        return read_image(self.image)


class Reader(Protocol):
    """Interface of a data set.

    frames: in natural order of their names.
    ids: raw id in the label files -> the data set's class name; two ids may share a name.
    ignored: raw ids that are legal in the label files but stand for no class.

    A reader of video also has `neighbour(frame, offset: int) -> Frame | None`: the unlabelled frame `offset` frames
    later (earlier where negative), None past the ends of the video.
    """

    frames: tuple[Frame, ...]
    label_map: Mapping[int, str]
    ignored: Collection[int]

    def read_label(self, path: Path) -> np.ndarray:
        """Read raw ids (H, W) of any integer type. Raises ValueError naming a file that cannot be read."""
        ...


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Sort key under which `frame_9` precedes `frame_10`."""
    return [(0, int(part)) if part[0] in "0123456789" else (1, part) for part in re.split(r"([0-9]+)", text) if part]


def existing_folder(path: str | os.PathLike[str], fix: str) -> Path:
    """Return `path` as a Path.

    Raises FileNotFoundError, with the folders that do exist and the fix, when there is no such folder.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"no folder {path}{_instead(path)}; {fix}")
    return path


def scan(folder: str | os.PathLike[str], suffix: str, fix: str = "check the data set's root and split") -> list[str]:
    """List the files below `folder` that end in `suffix`: relative, without the suffix, in natural order.

    Follows links once, leaves hidden and thumbnail folders out, and takes .JPG for .jpg (see `walk`). Images with
    another suffix are a remark.
    Raises FileNotFoundError when the folder is missing or a link to a folder is broken. Raises ValueError naming the
    pattern when no file matches, or naming a subfolder that cannot be listed.
    """
    folder = existing_folder(folder, fix)
    files = files_below(folder, fix)
    names = [file[: -len(suffix)] for file in files if ends_in(file, suffix)]
    others = ", ".join(f"{count} in {kind}" for kind, count in sorted(other_images(files, suffix).items()))
    if not names:
        raise ValueError(f"no file {folder}/**/*{suffix}; {fix}{others and f' (there are {others})'}")
    if others:
        remark(f"of the images below {folder}, {others} are left out, because {suffix} is asked for; {fix}")
    if len(set(names)) < len(names):
        twice = next(name for name in sorted(names) if names.count(name) > 1)
        raise ValueError(f"two files {folder / twice}{suffix} differ in capital letters alone; move one away")
    return sorted(names, key=natural_key)


def listed(root: Path, split: str, images: Path, suffix: str, every: str = "train") -> Sequence[str]:
    """List frame names without split folders: all images for the split `every`, else those in `<split>.txt`."""
    return scan(images, suffix) if split == every else read_split(root / f"{split}.txt", f"or set split: {every}")


def read_split(path: str | os.PathLike[str], otherwise: str = "or leave the split out") -> tuple[str, ...]:
    """Read the frame names of a split file: one a line, in order, without blank lines and lines with #.

    Names are the bytes of the files' names; see `text` for the encodings.
    """
    path = Path(path)
    if not path.is_file():
        result = _instead(path, lambda item: item.suffix == path.suffix)
        raise FileNotFoundError(f"no split file {path}{result}; write one frame name a line, {otherwise}")
    lines = (line.strip() for line in text.read_lines(path, any_bytes=True))
    names = tuple(line for line in lines if line and not line.startswith("#"))
    if not names:
        raise ValueError(f"split file {path} names no frame; write one frame name a line")
    return names


def pairs(names: Iterable[str], images: tuple[Path, str], labels: tuple[Path, str] | None) -> Iterator[Frame]:
    """Yield frames of these names. images, labels: (folder, suffix) of the files `<folder>/<name><suffix>`.

    labels: None for unlabelled data.
    """
    for name in names:
        label = None if labels is None else labels[0] / f"{name}{labels[1]}"
        yield Frame(name, images[0] / f"{name}{images[1]}", label)


def require(frames: Iterable[Frame], fix: str) -> tuple[Frame, ...]:
    """Return the frames after checking that every image and label file exists; no file is opened.

    A frame takes the file in .JPG where there is none in .jpg, and the reverse.
    """
    frames = tuple(map(_stored, frames))
    for frame in frames:
        if not frame.image.is_file():
            raise FileNotFoundError(f"no image {_missing(frame.image)}; {fix}")
        if frame.label is not None and not frame.label.is_file():
            raise FileNotFoundError(f"no label {_missing(frame.label)} for image {frame.image}; {fix}")
    return frames


def _stored(frame: Frame) -> Frame:
    image, label = as_stored(frame.image), frame.label and as_stored(frame.label)
    return frame if image is frame.image and label is frame.label else replace(frame, image=image, label=label)


def _missing(path: Path) -> str:
    """Describe a missing path: the target of a broken link, or a name that is not UTF-8."""
    if path.is_symlink():
        return f"{path} (a link to {os.readlink(path)}, which is not there)"
    return str(path) if text.is_utf8(str(path)) else f"{path} (not UTF-8; save the list that names it as UTF-8)"


def _instead(path: Path, wanted: Callable[[Path], bool] = Path.is_dir, most: int = 12) -> str:
    """List, in brackets, paths that exist beside a missing one or beside its first missing parent."""
    while not path.parent.is_dir():
        path = path.parent
    if path.is_symlink():
        return f" (a link to {os.readlink(path)}, which is not there)"
    names = sorted(item.name for item in path.parent.iterdir() if wanted(item))
    return f" ({path.parent} holds {', '.join(names[:most]) or 'none'}{', ...' if len(names) > most else ''})"
