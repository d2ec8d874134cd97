"""Check of a data set before a run: finds every file by name, and opens a sample of frames as training does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from blda.data.checks.data_report import DataReport, Problem
from blda.data.checks.label_frequencies import (
    Ids,
    Shown,
    classes_of,
    count_ids,
    in_vain,
    pixels_of,
    unknown_ids,
    without_class,
)
from blda.data.class_statistics import ClassCounts
from blda.data.file_handles import require_handles
from blda.data.label_map import LabelLookup
from blda.data.loader import start_worker
from blda.data.readers.frames import Reader
from blda.data.readers.remarks import collecting
from blda.data.segmentation_dataset import read_frame
from blda.data.transforms import RandomCrop

ENOUGH = 32
"""Labels without any class of the run after which the data set is taken to have none."""
THREADS = 4
CHUNK = 32
"""Labels that are read before it is asked whether more are needed."""


class Frames(Protocol):
    """Data set of a run. Training data also has a `transform`; `lookup` is None without labels."""

    reader: Reader
    lookup: LabelLookup | None


@dataclass(frozen=True)
class CheckScope:
    """Extent of a check. Frames are chosen at even distances; None means all of them.

    opened: number of frames to open. named: number of frames whose neighbours are looked up by name.
    labels: most label files to read while some class has not been found.
    workers: processes that open files, 0 for this process. progress: show a bar on a terminal.
    """

    opened: int | None = 64
    named: int | None = None
    workers: int = 0
    progress: bool = False
    labels: int | None = 512


@dataclass(frozen=True)
class CheckTarget:
    """Data set to check, with the requirements of the run.

    name: source, target or evaluation. make: builds the data set. classes: class names of the run, in order.
    asked: who needs which classes, for example {"protocol viper15": (...)}.
    needed: classes that must occur; it is an error when all labels were read and none shows one of them.
    skip_unreadable: an unusable frame is only a warning as long as other frames can be used.
    count: counts the class pixels of all frames; None counts those of the opened frames.
    min_pixels: pixels of a class that a frame needs before rare-class sampling draws it for that class.
    """

    name: str
    make: Callable[[], Frames]
    classes: Sequence[str]
    asked: Mapping[str, Collection[str]] = field(default_factory=dict)
    needed: Collection[str] = ()
    skip_unreadable: bool = False
    count: Callable[[Frames], ClassCounts] | None = None
    min_pixels: int = 0


@dataclass(frozen=True)
class Seen:
    """Result of opening one frame.

    size: (H, W), None if the frame cannot be used. ids: raw id -> pixels. faults: (kind, message) of every fault.
    remarks: notes for the data set's owner that are no faults.
    """

    index: int
    size: tuple[int, int] | None
    ids: Mapping[int, int]
    faults: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...] = ()


Look = Callable[[Frames, int], Seen]


def check(role: CheckTarget, scope: CheckScope) -> DataReport:
    """Check one data set of a run. The data set is only read."""
    made = attempt(role)
    return made.failed or inspect(role, made, scope)


@dataclass(frozen=True)
class Made:
    """Result of building a data set: the data set, or the report of why it cannot be built.

    remarks: notes that were collected meanwhile.
    """

    dataset: Frames | None
    failed: DataReport | None
    remarks: tuple[str, ...] = ()


def attempt(role: CheckTarget) -> Made:
    """Build the data set of `role`; an error becomes a report."""
    with collecting() as remarks:
        try:
            return Made(role.make(), None, tuple(remarks))
        except (ValueError, OSError) as error:
            problems = (Problem("data set", str(error), True), *_as_problems(remarks))
            return Made(None, DataReport(role.name, problems=problems))


def look(dataset: Frames, index: int) -> Seen:
    """Open one frame of a segmentation data set, with its label if it has one."""
    frame, reader = dataset.reader.frames[index], _Recorder(dataset.reader)
    size, faults = None, ()
    try:
        size = read_frame(reader, dataset.lookup, frame)[0].shape[:2]
        if transform := getattr(dataset, "transform", None):
            _check_crop(transform, frame.image, size)
    except (ValueError, OSError) as error:
        faults = (("file", str(error)),)
    return Seen(index, size, {} if reader.raw is None else count_ids(reader.raw), faults)


def inspect(role: CheckTarget, made: Made, scope: CheckScope, look: Look = look) -> DataReport:
    """Check a data set that is already built; `look` opens one frame."""
    dataset, remarks = made.dataset, list(made.remarks)
    reader, lookup = dataset.reader, dataset.lookup
    seen = list(_opened(dataset, look, scope, role.name))
    labels = {str(reader.frames[item.index].label): item.ids for item in seen if item.ids}
    counts, faults = None, {}
    if lookup is not None:
        if role.count:
            counts = role.count(dataset)
            faults = dict(counts.unusable)
        else:
            faults = _read_more_labels(role, dataset, labels, scope)
            counts = ClassCounts(pixels_of(labels.values(), lookup, len(role.classes)), {})
    remarks += [text for item in seen for text in item.remarks]
    return DataReport(
        name=role.name,
        reader=type(reader).__name__,
        frames=len(reader.frames),
        opened=len(seen),
        pairs=sum(frame.label is not None for frame in reader.frames),
        sizes=dict(Counter(f"{item.size[0]} x {item.size[1]}" for item in seen if item.size is not None)),
        ignored=without_class(labels.values(), lookup),
        unknown=tuple(unknown_ids(labels, lookup)),
        classes=None if counts is None else classes_of(counts.pixels, role.classes),
        problems=(
            *_faults(role, seen, faults.values()),
            *_class_problems(role, dataset, counts, {raw for ids in labels.values() for raw in ids}),
            *_as_problems(remarks),
        ),
    )


def _read_more_labels(role: CheckTarget, dataset: Frames, labels: dict[str, Ids], scope: CheckScope) -> dict[str, str]:
    """Read further labels until every class is found or enough are read.

    labels: file -> ids, extended in place. Returns file -> error message of the labels that cannot be read.
    """
    reader, lookup = dataset.reader, dataset.lookup
    possible = {index for index in lookup.lookup.tolist() if 0 <= index < len(role.classes)}
    frames = [reader.frames[i] for i in spread(len(reader.frames), scope.labels)]
    paths = [frame.label for frame in frames if frame.label is not None and str(frame.label) not in labels]
    shown, faults = pixels_of(labels.values(), lookup, len(role.classes)).sum(0), {}

    def read(path: Path) -> Ids | str:
        try:
            raw = reader.read_label(path)
            lookup.compact(raw, path)
        except (ValueError, OSError) as error:
            return str(error)
        return count_ids(raw)

    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(paths), CHUNK):
            if all(shown[index] for index in possible):
                break
            some = paths[start : start + CHUNK]
            for path, result in zip(some, pool.map(read, some), strict=True):
                if isinstance(result, str):
                    faults[str(path)] = result
                else:
                    labels[str(path)] = result
                    shown = shown + pixels_of([result], lookup, len(role.classes))[0]
    return faults


def _as_problems(remarks: Collection[str]) -> Iterator[Problem]:
    return (Problem("remark", text, False) for text in dict.fromkeys(remarks))


def spread(length: int, count: int | None) -> list[int]:
    """Return `count` of the numbers below `length` at even distances, first and last included; all for None."""
    if count is None or count >= length:
        return list(range(length))
    return sorted({round(position) for position in np.linspace(0, length - 1, max(count, 1)).tolist()})


class _Recorder:
    """Wrapper of a reader that keeps the raw ids of the last label it read, as `raw`."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self.raw = reader, None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def read_label(self, path: Path) -> np.ndarray:
        self.raw = self._reader.read_label(path)
        return self.raw


class _Opening(Dataset):
    """Frames of a data set, opened by loader processes.

    A video file that one process opened is never used in another.
    """

    def __init__(self, dataset: Frames, look: Look, indices: list[int]) -> None:
        self.dataset, self.look, self.indices = dataset, look, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> Seen:
        with collecting() as remarks:
            seen = self.look(self.dataset, self.indices[i])
        return replace(seen, remarks=tuple(remarks))


def _opened(dataset: Frames, look: Look, scope: CheckScope, name: str) -> Iterator[Seen]:
    indices = spread(len(dataset.reader.frames), scope.opened)
    require_handles(min(scope.workers, len(indices)))
    loader = DataLoader(
        _Opening(dataset, look, indices),
        batch_size=None,
        num_workers=min(scope.workers, len(indices)),
        collate_fn=_as_it_is,
        worker_init_fn=start_worker,
        generator=torch.Generator(),
    )
    return iter(tqdm(loader, f"open {name}", disable=None if scope.progress else True, unit="frame", leave=False))


def _as_it_is(seen: Seen) -> Seen:
    return seen


def _check_crop(transform: RandomCrop, image: Path, size: tuple[int, int]) -> None:
    try:
        transform.trusted(transform.random_geometry(torch.Generator(), size))
    except ValueError as error:
        raise ValueError(f"image {image}: {error}") from error


def _faults(role: CheckTarget, seen: Sequence[Seen], others: Collection[str]) -> Iterator[Problem]:
    faults = [fault for item in seen for fault in item.faults]
    faults += [("file", text) for text in others]
    fatal = not role.skip_unreadable or all(item.faults for item in seen)
    kinds = {text: kind for kind, text in reversed(faults)}  # a frame that is a neighbour too is told once
    return (Problem(kinds[text], text, fatal) for text in dict.fromkeys(text for _, text in faults))


def _class_problems(
    role: CheckTarget, dataset: Frames, counts: ClassCounts | None, raw: Collection[int]
) -> Iterator[Problem]:
    """Yield a problem for each required class that no label shows.

    Yields nothing where no label could be read, as that is reported already.
    """
    if counts is not None and len(counts.pixels):
        frames, read = len(dataset.reader.frames), len(counts.pixels)
        shown = Shown(counts.pixels, raw, read >= frames, read >= min(frames, ENOUGH))
        yield from in_vain(role.asked, role.needed, role.classes, dataset.lookup, shown, role.min_pixels)
