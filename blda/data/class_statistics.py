"""Class pixels of every frame of a labelled data set, counted once and kept in a cache folder."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from blda import atomic
from blda.data.frames import Frame, Reader
from blda.data.label_space import LabelTable


def class_pixels(
    reader: Reader, table: LabelTable, classes: int, cache: str | Path | None = None, workers: int = 4
) -> np.ndarray:
    """Pixels (frames, classes) int64 of each class in each frame, at the label files' own size.

    cache: folder for the result, made if need be; a later call with the same frames, label files (path, size and time
    of change) and table reads it from there. None counts anew. workers: threads. The data set is only read.
    """
    if unlabelled := [frame.name for frame in reader.frames if frame.label is None]:
        raise ValueError(f"frame {unlabelled[0]} has no label; class statistics need a labelled data set")
    path = None if cache is None else Path(cache) / f"class_pixels_{_fingerprint(reader, table, classes)}.json"
    counts = None if path is None else _load(path, (len(reader.frames), classes))
    if counts is None:
        counts = _count(reader, table, classes, workers)
        if path is not None:
            _save(path, reader, counts)
    return counts


def _fingerprint(reader: Reader, table: LabelTable, classes: int) -> str:
    digest = hashlib.sha256(table.table.tobytes() + str(classes).encode())
    for frame in reader.frames:
        state = frame.label.stat()
        digest.update(f"{frame.name}\n{frame.label}\n{state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _count(reader: Reader, table: LabelTable, classes: int, workers: int) -> np.ndarray:
    def count(frame: Frame) -> np.ndarray:
        label = table(reader.read_label(frame.label), frame.label)
        return np.bincount(label.ravel(), minlength=256)[:classes]

    with ThreadPoolExecutor(max(workers, 1)) as pool:
        try:
            rows = list(tqdm(pool.map(count, reader.frames), "class statistics", len(reader.frames), disable=None))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # one bad file stops the scan, not after all others are read
            raise
    return np.stack(rows).astype(np.int64)


def _load(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The cached counts; None when there are none or the file is not whole, as it can be made again."""
    try:
        counts = np.array(json.loads(path.read_text(encoding="utf-8"))["pixels"], dtype=np.int64)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return counts if counts.shape == shape else None


def _save(path: Path, reader: Reader, counts: np.ndarray) -> None:
    record = {"frames": [frame.name for frame in reader.frames], "pixels": counts.tolist()}
    atomic.write(path, json.dumps(record))
