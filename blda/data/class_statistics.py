"""Class pixels of every frame of a labelled data set, counted once and kept in a cache folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from blda import atomic, text
from blda.data.label_map import LabelLookup
from blda.data.readers.frames import Frame, Reader

FORMAT = 3
"""Raised whenever the same label files would be counted or stored in another way."""


@dataclass(frozen=True)
class ClassCounts:
    """Class pixels of every frame.

    pixels: (frames, classes) int64. unusable: frame name -> reason why its label cannot be used; its row is 0.
    """

    pixels: np.ndarray
    unusable: Mapping[str, str]


def count_classes(
    reader: Reader,
    lookup: LabelLookup,
    num_classes: int,
    cache: str | Path | None = None,
    workers: int = 4,
    skip_unreadable: bool = True,
) -> ClassCounts:
    """Count the pixels of each class in each frame, at the label files' own size.

    cache: folder for the result, created if missing; None counts anew. A later call with the same frames, label files
    (path, size and modification time) and lookup reads the result from there. workers: threads.
    skip_unreadable: skip labels that cannot be used and list them in the result; else the first one's error is raised.
    The data set is only read.
    """
    if unlabelled := [frame.name for frame in reader.frames if frame.label is None]:
        raise ValueError(f"frame {unlabelled[0]} has no label; class statistics need a labelled data set")
    path = None if cache is None else Path(cache) / f"class_pixels_{_fingerprint(reader, lookup, num_classes)}.json"
    counts = None if path is None else _load(path, (len(reader.frames), num_classes))
    # What others went on past must not be hidden from a caller who wants to be stopped there.
    if counts is None or (counts.unusable and not skip_unreadable):
        counts = _count(reader, lookup, num_classes, workers, skip_unreadable)
        if path is not None:
            _save(path, reader, counts)
    return counts


def joined_counts(parts: Mapping[str, ClassCounts]) -> ClassCounts:
    """Join the counts of several data sets, name -> counts; names of frames begin with the data set's."""
    unusable = {f"{name}/{frame}": why for name, part in parts.items() for frame, why in part.unusable.items()}
    return ClassCounts(np.concatenate([part.pixels for part in parts.values()]), unusable)


def _fingerprint(reader: Reader, lookup: LabelLookup, num_classes: int) -> str:
    digest = hashlib.sha256(lookup.lookup.tobytes() + f"{num_classes} {type(reader).__qualname__} {FORMAT}".encode())
    for frame in reader.frames:
        digest.update(text.to_bytes(f"{frame.name}\n{frame.label}\n{_state(frame.label)}\n"))
    return digest.hexdigest()[:32]


def _state(path: Path) -> str:
    try:
        state = path.stat()
    except OSError:
        return "gone"  # who counts it says so, in a better message
    return f"{state.st_size} {state.st_mtime_ns}"


def _count(reader: Reader, lookup: LabelLookup, num_classes: int, workers: int, skip_unreadable: bool) -> ClassCounts:
    unusable: dict[str, str] = {}

    def count(frame: Frame) -> np.ndarray:
        try:
            label = lookup(reader.read_label(frame.label), frame.label)
        except (ValueError, OSError) as error:
            if not skip_unreadable:
                raise
            unusable[frame.name] = str(error)
            return np.zeros(num_classes, np.int64)
        return np.bincount(label.ravel(), minlength=256)[:num_classes]

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        try:
            rows = list(tqdm(pool.map(count, reader.frames), "class statistics", len(reader.frames), disable=None))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # one bad file stops the scan, not after all others are read
            raise
    in_order = {frame.name: unusable[frame.name] for frame in reader.frames if frame.name in unusable}
    return ClassCounts(np.stack(rows).astype(np.int64), in_order)


def _load(path: Path, shape: tuple[int, int]) -> ClassCounts | None:
    """Read cached counts; None when the file is missing or incomplete, as it can be made again."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        counts = ClassCounts(np.array(record["pixels"], dtype=np.int64), dict(record["unusable"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return counts if counts.pixels.shape == shape else None


def _save(path: Path, reader: Reader, counts: ClassCounts) -> None:
    names = [frame.name for frame in reader.frames]
    record = {"frames": names, "pixels": counts.pixels.tolist(), "unusable": counts.unusable}
    try:
        atomic.write(path, json.dumps(record))
    except OSError as error:
        raise ValueError(
            f"cannot write {path} ({error.strerror}); set data.cache to a folder that can be written"
        ) from error
