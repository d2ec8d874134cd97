"""Measure CPU time of loading by named function, without the time of named functions that it calls."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pkgutil import resolve_name
from unittest.mock import patch

STAGES = {
    "read and decode": (
        "blda.data.readers.decoding._decoded",
        "blda_video.clips.video_files.video_file.VideoFile.read",
    ),
    "decode label": ("blda_video.clips.readers.folder_sequence.FolderSequence.read_label",),
    "colour": ("cv2.cvtColor",),
    "check and look up ids": ("blda.data.label_map.LabelLookup.compact", "cv2.LUT"),
    "draw": (
        "blda.data.transforms.RandomCrop.random_geometry",
        "blda.data.transforms.RandomCrop.random_label_geometry",
    ),
    "resize and cut label": ("blda.data.transforms.Geometry.label",),
    "resize and cut image": ("blda.data.transforms.Geometry.image",),
    "to tensor": (
        "blda.data.segmentation_dataset.byte_tensor",
        "blda_video.clips.clip_crop.byte_tensor",
    ),
    "decode flow": ("numpy.lib.npyio.NpzFile.__getitem__",),
    "read flow": ("blda_video.flow.flow_store.FlowStore.read",),
    "resize, cut, mirror flow": (
        "blda_video.clips.clip_crop.resize",
        "blda_video.clips.clip_crop.crop",
        "blda_video.clips.clip_crop.flip",
    ),
    "check flow": ("blda_video.clips.clip_crop.consistent",),
    "collate": ("blda.data.loader.collate",),
}
"""Stage -> the functions that are it."""


def stages(work: Callable[[], object], clips: int, runs: int) -> dict[str, float]:
    """Milliseconds per clip in each stage of `work`, which loads `clips` clips; `rest` is time outside all stages."""
    passes = []
    with timed() as spent:
        for _ in range(runs):
            spent.clear()
            start = time.process_time()
            work()
            spent["rest"] = time.process_time() - start - sum(spent.values())
            passes.append(dict(spent))
    names = [name for name in (*STAGES, "rest") if any(name in each for each in passes)]
    return {name: round(1e3 * statistics.median(each.get(name, 0) for each in passes) / clips, 3) for name in names}


@contextmanager
def timed() -> Iterator[Counter]:
    """Context manager that collects CPU seconds by stage."""
    spent: Counter = Counter()
    inner: list[float] = []

    def watched(stage: str, function: Callable) -> Callable:
        @wraps(function)
        def call(*args: object, **keywords: object) -> object:
            inner.append(0.0)
            start = time.process_time()
            try:
                return function(*args, **keywords)
            finally:
                took = time.process_time() - start
                spent[stage] += took - inner.pop()
                if inner:
                    inner[-1] += took

        return call

    with ExitStack() as stack:
        for stage, names in STAGES.items():
            for name in names:
                stack.enter_context(patch(name, watched(stage, resolve_name(name))))
        yield spent
