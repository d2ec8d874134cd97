"""A data set of logits saved by another framework."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from blda.data.readers.array_headers import Shape, array_header
from blda.data.readers.frames import natural_key
from blda.data.readers.walk import files_below, with_suffixes
from blda.data.sample import IGNORE, Sample

VALUES = 2**24
"""Largest number of logits in a sample, unless a single image has more."""


class Array(NamedTuple):
    """Location of an array: the `member` of an .npz file, or a whole .npy file if `member` is None."""

    path: Path
    member: str | None


class Entry(NamedTuple):
    """Logits of one file and their labels.

    labels: None if labels are not read. shape: shape of the logits as (N, C, H, W).
    """

    logits: Array
    labels: Array | None
    shape: Shape

    def read(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Read logits (N, C, H, W) and labels (N, H, W), or None without labels."""
        images, _, *size = self.shape
        labels = None if self.labels is None else _read(self.labels).reshape(images, *size)
        return _read(self.logits).reshape(self.shape), labels


class SavedLogits(Dataset[Sample]):
    """Samples whose `image` holds logits (B, C, H, W); their network is the identity.

    path: an .npz file with arrays `logits` and `labels`; a folder of such files; or a folder with logits/*.npy and
        labels/*.npy of the same names. Logits are floats (N, C, H, W), or (C, H, W) of one image, or (N, C), which
        become (N, C, 1, 1). Labels have the same shape without C and are integers below C, or IGNORE.
    labelled: False does not read the labels.

    Shapes and types are checked at construction, values when they are read. Raises ValueError that names the file,
    the array and the fix.
    """

    def __init__(self, path: str | Path, labelled: bool) -> None:
        self.path = Path(path)
        entries = [_entry(logits, labels) for logits, labels in _arrays(self.path, labelled)]
        self.classes = entries[0].shape[1]
        for entry in entries:
            if entry.shape[1] != self.classes:
                raise ValueError(
                    f"{entry.logits.path} holds {entry.shape[1]} classes but {entries[0].logits.path} {self.classes}; "
                    "save the logits of one network only"
                )
        if self.classes > IGNORE:
            raise ValueError(
                f"{path} holds {self.classes} classes; use at most {IGNORE}, which is the label of ignored pixels"
            )
        self.slices = [(entry, *bounds) for entry in entries for bounds in _slices(entry.shape)]
        self._last: tuple[Entry, tuple[np.ndarray, np.ndarray | None]] | None = None

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, index: int) -> Sample:
        """Read a slice of the images of one file."""
        entry, start, stop = self.slices[index]
        if self._last is None or self._last[0] is not entry:
            self._last = entry, entry.read()
        logits, labels = (None if array is None else array[start:stop] for array in self._last[1])
        image = torch.from_numpy(logits.astype(np.float32))
        if not image.isfinite().all():
            raise ValueError(
                f"{entry.logits.path}: logits of images {start} to {stop - 1} are not all finite; save finite numbers"
            )
        label = None if labels is None else self._label(labels, entry.labels.path)
        numbers = tuple(range(start, stop))
        return Sample(image, label, tuple(f"{entry.logits.path.name}[{n}]" for n in numbers), numbers)

    def _label(self, labels: np.ndarray, path: Path) -> Tensor:
        """Convert labels to int64; ValueError naming the file if one is neither a class nor IGNORE."""
        label = torch.from_numpy(labels.astype(np.int64))
        wrong = label[((label < 0) | (label >= self.classes)) & (label != IGNORE)]
        if wrong.numel():
            raise ValueError(f"{path} holds label {wrong[0]} but {self.classes} classes; use {IGNORE} for ignored ones")
        return label


def _arrays(path: Path, labelled: bool) -> Iterator[tuple[Array, Array | None]]:
    """Yield the locations of the logits and labels below a path."""
    if (path / "logits").is_dir():
        for file in _sorted(path / "logits", "*.npy"):
            yield Array(file, None), Array(path / "labels" / file.name, None) if labelled else None
        return
    if not path.exists():
        raise FileNotFoundError(f"no logits at {path}; give an .npz file or a folder")
    for file in _sorted(path, "*.npz") if path.is_dir() else [path]:
        yield Array(file, "logits"), Array(file, "labels") if labelled else None


def _sorted(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a folder that match `*.SUFFIX`, in natural order; ValueError if there are none."""
    fix = "save .npz files with 'logits' and 'labels', or logits/*.npy"
    files = with_suffixes(files_below(folder, fix, deep=False), (pattern.removeprefix("*"),))
    if not files:
        raise ValueError(f"{folder} holds no {pattern}; {fix}")
    return [folder / file for file in sorted(files, key=natural_key)]


def _entry(logits: Array, labels: Array | None) -> Entry:
    """Check the shapes and types of logits and labels by their headers; nothing else is read."""
    shape, kind = _header(logits)
    if len(shape) not in (2, 3, 4) or 0 in shape or kind != "f":
        raise ValueError(f"{logits.path}: logits must be floats (N, C, H, W), (C, H, W) or (N, C), not {kind} {shape}")
    if labels is not None:
        expected = shape[1:] if len(shape) == 3 else (shape[0], *shape[2:])
        stored, kind = _header(labels)
        if stored != expected or kind not in "iu":
            raise ValueError(
                f"{labels.path}: labels must be integers {expected} for logits {shape}, not {kind} {stored}"
            )
    return Entry(logits, labels, (1, *shape) if len(shape) == 3 else (*shape, 1, 1)[:4])


def _header(array: Array) -> tuple[Shape, str]:
    """Read the shape of an array and NumPy's letter for its kind of number, such as "f", without its values."""
    path, member = array
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; every file in logits/ needs one of the same name in labels/")
    try:
        shape, kind = array_header(path, member)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except Exception as error:  # damaged files raise many types
        raise ValueError(f"{path} is damaged or not an .npz file; save it again") from error
    return shape, kind.kind


def _read(array: Array) -> np.ndarray:
    """Read an array; that of an .npy file is memory-mapped."""
    try:
        if array.member is None:
            return np.load(array.path, mmap_mode="r", allow_pickle=False)
        with np.load(array.path, allow_pickle=False) as archive:
            return archive[array.member]
    except Exception as error:  # damaged files raise many types, a MemoryError where they claim to be huge
        raise ValueError(f"{array.path} is damaged: {' '.join(str(error).split())}; save it again") from error


def _slices(shape: Shape) -> Iterator[tuple[int, int]]:
    """Yield the bounds (start, stop) of the images of each sample."""
    images, classes, height, width = shape
    step = max(1, VALUES // (classes * height * width))
    for start in range(0, images, step):
        yield start, min(start + step, images)
