"""Measure clips per second of the training data against the bare decoding of the same files; prints JSON.

    python benchmarks/loader_speed.py [--kinds jpeg png video] [--workers 0 1 2] [--clips 16] [--runs 7] [--stages]

jpeg: 1920 x 1080 resized to 1280 x 720. png: 2048 x 1024 to 1024 x 512. video: H.264, 1280 x 720. All are cut to 512 x
512 and mirrored, in batches of 2. Cases of each kind: `source` (label, rare-class draws), `target`, `context` (a
neighbour with zero flow, checked) and `stored` (both flows from a store). The bare decode is OpenCV's for images,
Pillow's for labels, zlib's for flow and the decoder's for videos, in as many workers.

Bare and full passes over the same draws alternate; `overhead` is the median of 1 - bare / full over the pairs: `cpu`
from the CPU time of all workers together, `wall` from elapsed time, which is unreliable on a shared machine. --stages:
milliseconds of CPU a clip, median, of each stage without those called from it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import active_children
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from blda.data.draws import Draw
from blda.data.label_map import CITYSCAPES19, label_lookup
from blda.data.loader import endless_loader, start_worker
from blda.data.readers.frames import Frame, Reader
from blda.data.sampler import RareClassSampler
from blda.data.segmentation_dataset import SegmentationDataset
from blda.data.transforms import RandomCrop
from blda_video.clips.clip_dataset import ClipDataset
from blda_video.clips.video_files.video_decoders import PyAVDecoder
from blda_video.clips.video_files.video_file import VideoFrame
from blda_video.flow.flow_store import FlowStore
from footage import IDS, flow_store, frame_reader, video_reader
from runs import circumstances
from stopwatch import stages

KINDS = {"jpeg": (1080, 1920), "png": (1024, 2048), "video": (720, 1280)}
RESIZE = {"jpeg": (720, 1280), "png": (512, 1024), "video": None}
CROP = (512, 512)
BATCH = 2
OFFSET = -1


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    arguments.add_argument("--workers", nargs="+", type=int, default=(0, 1, 2))
    arguments.add_argument("--clips", type=int, default=16, help="of a pass")
    arguments.add_argument("--runs", type=int, default=7)
    arguments.add_argument("--stages", action="store_true")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    report: dict[str, object] = {**circumstances("cpu"), "opencv": cv2.__version__, "clips": given.clips}
    with tempfile.TemporaryDirectory() as folder:
        for kind in given.kinds:
            for case in cases(kind, Path(folder) / kind):
                draws = batches(case.draw, given.clips)
                figures = {f"workers_{n}": compared(case, draws, n, given.runs) for n in given.workers}
                if given.stages:
                    figures["stages_ms"] = stages(partial(loaded, case.data, draws), given.clips, given.runs)
                report[f"{kind}_{case.name}"] = figures
                print(f"{kind} {case.name} done", file=sys.stderr)
    print(json.dumps(report, indent=1))


@dataclass(frozen=True)
class Case:
    """A measured case. data: training data. bare: only decodes the same files. draw: function from a number to its
    draw.
    """

    name: str
    data: SegmentationDataset
    bare: Bare
    draw: Callable[[int], Draw]


def cases(kind: str, root: Path) -> Iterator[Case]:
    """Make all cases of a kind; their files are written below `root`."""
    crop = RandomCrop(RESIZE[kind], CROP)
    if kind == "video":
        reader = video_reader(root / "videos", KINDS[kind])
    else:
        labelled = frame_reader(root, f".{kind}", KINDS[kind], labelled=True)
        pixels = np.stack([np.bincount(labelled.read_label(f.label).ravel(), minlength=19) for f in labelled.frames])
        lookup = label_lookup(IDS, range(19, 32), CITYSCAPES19)  # 0 to 31 are legal, as in VIPER
        data = SegmentationDataset(labelled, lookup, crop, 0, in_bytes=True)
        yield Case("source", data, Bare(labelled, (), None), RareClassSampler(pixels, BATCH).draw)
        reader = frame_reader(root, f".{kind}", KINDS[kind], labelled=False)
    seen = [i for i, frame in enumerate(reader.frames) if reader.neighbour(frame, OFFSET)]

    def draw(number: int) -> Draw:
        return Draw(seen[number * 5 % len(seen)], number)

    store = flow_store(root / "flow", reader, OFFSET)
    for name, offsets, flow in (("target", (), None), ("context", (OFFSET,), still), ("stored", (OFFSET,), store)):
        data = ClipDataset(reader, None, crop, 0, offsets, flow, in_bytes=True)
        yield Case(name, data, Bare(reader, offsets, flow), draw)


def still(image: Tensor, neighbour: Tensor) -> Tensor:
    """Return zero flow."""
    return torch.zeros_like(image[:, :2])


class Bare(Dataset):
    """Data set that decodes the files of a draw's clip and discards the result."""

    def __init__(self, reader: Reader, offsets: tuple[int, ...], flow: object) -> None:
        self.reader, self.offsets, self.flow = reader, offsets, flow
        self.decoders: dict[tuple[int, Path], PyAVDecoder] = {}  # of each process its own

    def __len__(self) -> int:
        return len(self.reader.frames)

    def __getitem__(self, draw: Draw) -> int:
        frame = self.reader.frames[draw.index]
        others = [self.reader.neighbour(frame, offset) for offset in self.offsets]
        for each in sorted((frame, *others), key=lambda each: each.name):
            self.image(each)
        if frame.label:
            with Image.open(frame.label) as label:
                np.asarray(label)
        for other in others if isinstance(self.flow, FlowStore) else ():
            for key, neighbour in ((frame, other), (other, frame)):
                with np.load(self.flow.path(key.name, neighbour.name)) as archive:
                    archive["flow"]
        return draw.number

    def image(self, frame: Frame) -> np.ndarray:
        """Decode a whole image, in the decoder's own colour order."""
        if not isinstance(frame, VideoFrame):
            return cv2.imdecode(np.fromfile(frame.image, np.uint8), cv2.IMREAD_COLOR)
        key = os.getpid(), frame.image
        if key not in self.decoders:
            self.decoders[key] = PyAVDecoder(frame.image, frame.video.index)
        return self.decoders[key].frame(frame.number)


def batches(draw: Callable[[int], Draw], clips: int) -> list[list[Draw]]:
    """Numbers of one pass, in batches."""
    return [[draw(first + i) for i in range(BATCH)] for first in range(0, clips, BATCH)]


def compared(case: Case, draws: list[list[Draw]], workers: int, runs: int) -> dict[str, object]:
    """Rates, and the medians over alternating pairs of passes; the first pair only warms up."""
    loaders = bare_loader(case.bare, draws, workers), endless_loader(case.data, draws, workers)
    pairs = [[passed(loader) for loader in loaders] for _ in range(runs + 1)][1:]
    clips = sum(map(len, draws))
    figures: dict[str, object] = {}
    for i, clock in enumerate(("wall", "cpu")):
        alone, full = ([each[side][i] for each in pairs] for side in (0, 1))
        figures[clock] = {
            "bare_ms": round(1e3 * statistics.median(alone) / clips, 2),
            "full_ms": round(1e3 * statistics.median(full) / clips, 2),
            "overhead": round(statistics.median(1 - a / b for a, b in zip(alone, full, strict=True)), 3),
        }
    figures["clips_per_second"] = round(clips / statistics.median(full[0] for _, full in pairs), 1)
    return figures


def bare_loader(bare: Dataset, draws: list[list[Draw]], workers: int) -> DataLoader:
    """Make a loader like `endless_loader`, for numbers."""
    return DataLoader(
        bare, batch_sampler=draws, num_workers=workers, worker_init_fn=start_worker, persistent_workers=workers > 0
    )


def loaded(data: Dataset, draws: list[list[Draw]]) -> None:
    """Load one pass with a new loader, in this process."""
    passed(endless_loader(data, draws))


def passed(loader: Iterable[object]) -> tuple[float, float]:
    """Elapsed and CPU seconds of one pass; CPU time includes this process and its workers."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    for _ in loader:
        pass
    return time.perf_counter() - wall, cpu_seconds() - cpu


def cpu_seconds() -> float:
    """CPU seconds of this process and its living children (Linux: a process's clock follows from its id)."""
    return time.process_time() + sum(time.clock_gettime(~child.pid << 3 | 2) for child in active_children())


if __name__ == "__main__":
    main()
