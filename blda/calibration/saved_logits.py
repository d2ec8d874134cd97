"""Logits that any other network saved, as a data set."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from blda.data.readers.frames import natural_key
from blda.data.readers.walk import files_below, with_suffixes
from blda.data.sample import IGNORE, Sample

VALUES = 2**24
"""Logits of one sample at most, unless a single image has more."""

Shape = tuple[int, ...]


class Array(NamedTuple):
    """Where an array lies: `member` of an .npz, or a whole .npy where that is None."""

    path: Path
    member: str | None


class Entry(NamedTuple):
    """One file's logits (N, C, H, W) and labels, None where they are not wanted."""

    logits: Array
    labels: Array | None
    shape: Shape

    def read(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Logits (N, C, H, W) and labels (N, H, W)."""
        images, _, *size = self.shape
        labels = None if self.labels is None else _read(self.labels).reshape(images, *size)
        return _read(self.logits).reshape(self.shape), labels


class SavedLogits(Dataset[Sample]):
    """Samples whose `image` holds the logits (B, C, H, W) themselves: the network that belongs to them is the identity.

    path: an .npz with arrays `logits` and `labels`; a folder of such; or a folder with logits/*.npy and labels/*.npy of
    the same names. Logits are (N, C, H, W), of one image (C, H, W), or (N, C), which become (N, C, 1, 1); labels are
    the same without C, whole numbers below C, IGNORE for none. labelled: False leaves labels unread wherever they are.

    Shapes and types are checked at once, values when they are read: ValueError naming file, array and mend.
    """

    def __init__(self, path: str | Path, labelled: bool) -> None:
        self.path = Path(path)
        entries = [_entry(logits, labels) for logits, labels in _found(self.path, labelled)]
        self.classes = entries[0].shape[1]
        for entry in entries:
            if entry.shape[1] != self.classes:
                raise ValueError(
                    f"{entry.logits.path} holds {entry.shape[1]} classes but {entries[0].logits.path} {self.classes}; "
                    "save all by one network"
                )
        if self.classes > IGNORE:
            raise ValueError(f"{path} holds {self.classes} classes; {IGNORE} marks what has none, so take at most that")
        self.parts = [(entry, *part) for entry in entries for part in _parts(entry.shape)]
        self._last: tuple[Entry, tuple[np.ndarray, np.ndarray | None]] | None = None

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> Sample:
        """Some images of one file."""
        entry, start, stop = self.parts[index]
        if self._last is None or self._last[0] is not entry:
            self._last = entry, entry.read()
        logits, labels = (None if array is None else array[start:stop] for array in self._last[1])
        image = torch.from_numpy(logits.astype(np.float32))
        if not image.isfinite().all():
            raise ValueError(f"{entry.logits.path}: logits of images {start} to {stop - 1} are not all finite numbers")
        label = None if labels is None else self._label(labels, entry.labels.path)
        numbers = tuple(range(start, stop))
        return Sample(image, label, tuple(f"{entry.logits.path.name}[{n}]" for n in numbers), numbers)

    def _label(self, labels: np.ndarray, path: Path) -> Tensor:
        label = torch.from_numpy(labels.astype(np.int64))
        wrong = label[((label < 0) | (label >= self.classes)) & (label != IGNORE)]
        if wrong.numel():
            raise ValueError(f"{path} holds label {wrong[0]} but {self.classes} classes; use {IGNORE} for none")
        return label


def _found(path: Path, labelled: bool) -> Iterator[tuple[Array, Array | None]]:
    """Logits and labels below a path."""
    if (path / "logits").is_dir():
        for file in _sorted(path / "logits", "*.npy"):
            yield Array(file, None), Array(path / "labels" / file.name, None) if labelled else None
        return
    if not path.exists():
        raise FileNotFoundError(f"no logits at {path}; give an .npz file or a folder")
    for file in _sorted(path, "*.npz") if path.is_dir() else [path]:
        yield Array(file, "logits"), Array(file, "labels") if labelled else None


def _sorted(folder: Path, pattern: str) -> list[Path]:
    fix = "save .npz files with 'logits' and 'labels', or logits/*.npy"
    files = with_suffixes(files_below(folder, fix, deep=False), (pattern.removeprefix("*"),))
    if not files:
        raise ValueError(f"{folder} holds no {pattern}; {fix}")
    return [folder / file for file in sorted(files, key=natural_key)]


def _entry(logits: Array, labels: Array | None) -> Entry:
    """What the headers of a file's arrays say, checked; nothing else is read."""
    shape, kind = _header(logits)
    if len(shape) not in (2, 3, 4) or 0 in shape or kind != "f":
        raise ValueError(f"{logits.path}: logits must be floats (N, C, H, W), (C, H, W) or (N, C), not {kind} {shape}")
    if labels is not None:
        wanted = shape[1:] if len(shape) == 3 else (shape[0], *shape[2:])
        result, kind = _header(labels)
        if result != wanted or kind not in "iu":
            raise ValueError(f"{labels.path}: labels must be integers {wanted} for logits {shape}, not {kind} {result}")
    return Entry(logits, labels, (1, *shape) if len(shape) == 3 else (*shape, 1, 1)[:4])


def _header(array: Array) -> tuple[Shape, str]:
    """Shape of an array and numpy's letter for its kind of number, without reading it."""
    path, member = array
    if not path.is_file():
        raise FileNotFoundError(f"no {path}; every file of logits/ needs one of the same name in labels/")
    try:
        if member is None:
            with path.open("rb") as file:
                return _parse(file)
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if member not in names:
                raise ValueError(f"no array '{member}', only {', '.join(names) or 'none'}; save it under that name")
            with archive.open(f"{member}.npy") as file:
                return _parse(file)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged or no .npz file; save it again") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _parse(file: BinaryIO) -> tuple[Shape, str]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = read(file)
    return shape, kind.kind


def _read(array: Array) -> np.ndarray:
    """The array; one of an .npy stays on disk until it is used."""
    try:
        if array.member is None:
            return np.load(array.path, mmap_mode="r", allow_pickle=False)
        with np.load(array.path, allow_pickle=False) as archive:
            return archive[array.member]
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{array.path} is damaged: {' '.join(str(error).split())}; save it again") from error


def _parts(shape: Shape) -> Iterator[tuple[int, int]]:
    """First and last + 1 of the images that make one sample."""
    images, classes, height, width = shape
    step = max(1, VALUES // (classes * height * width))
    for start in range(0, images, step):
        yield start, min(start + step, images)
