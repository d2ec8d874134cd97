"""Measure the gain of statistics that follow a video, on drives whose look changes on the way; prints JSON.

    python benchmarks/streaming_calibration.py CHECKPOINT [--calibration FILE] [--drives 8] [--frames 45] [key=value ...]
    python benchmarks/streaming_calibration.py CHECKPOINT --video [key=value ...]

Unseen drives of the street world in the target's look are predicted frame by frame: clear all the way, or changing to
dusk, rain or another camera from the first third on (benchmarks/changing_looks.py); the last third has changed
entirely. --video streams the run's own evaluation video instead, without a change.

Every frame is predicted once for all of: alone; fixed, corrected by the statistics of the checkpoint; fitted, by a file
of blda calibrate; streaming, by statistics that follow the video (blda predict --adapt); and the same, fused along DIS
flow (--fuse). mIoU in percent by the run's first protocol, over all labelled frames and over those of the last third.
Labels are used for measuring only.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from blda.balance.alignment import alignment
from blda.build.run import Run
from blda.calibration.calibration_file import Calibration
from blda.data.sample import Sample
from blda.data.segmentation_dataset import image_tensor, label_tensor, read_frame
from blda.data.transforms import whole
from blda.engine import checkpoint
from blda.data.label_map import CITYSCAPES19
from blda.engine.metrics import MeanIoU
from blda_video.flow.dis import DIS
from blda_video.jobs.restored_run import checkpoint_of, restored
from blda_video.stream.adaptive_stream import AdaptiveStream
from blda_video.stream.fused_stream import FusedStream
from blda_video.street_world.simulator.world import World
from changing_looks import LOOKS, amount, changed
from runs import circumstances

SIZE = (128, 256)
FIRST_SEED = 5000
Stream = Callable[[Tensor], Tensor]
Frames = Iterator[tuple[Tensor, Tensor | None, bool]]
"""Image (1, 3, H, W), labels (1, H, W) or None, and whether the frame belongs to the last third."""


def drive(run: Run, seed: int, look: str, frames: int) -> Frames:
    """Yield the frames of one drive."""
    world = World("target", seed, SIZE, frames)
    classes = torch.tensor([run.class_names.index(n) if n in run.class_names else 255 for n in CITYSCAPES19] + [255] * 237)
    for t in range(frames):
        frame = world.frame(t)
        image = changed(frame.image, look, amount(t, frames), seed * 1000 + t)
        yield image_tensor(image), classes[torch.from_numpy(frame.label).long()][None], 3 * t >= 2 * frames


def video(run: Run) -> Frames:
    """Yield the frames of the run's evaluation video."""
    reader = run.data.readers.evaluation()
    lookup, size = run.data.readers.evaluation_lookup(reader), run.data.readers.resize("evaluation")
    for i, frame in enumerate(reader.frames):
        image, label = read_frame(reader, lookup, frame)
        label = None if label is None else label_tensor(label)
        yield image_tensor(whole(size(image.shape[:2])).image(image)), label, 3 * i >= 2 * len(reader.frames)


class Streams:
    """Streams that share the network's prediction and the flow of a frame. make: see `streams`."""

    def __init__(self, predict: Stream) -> None:
        self._predict, self._flow = predict, DIS("medium")
        self.by_name: dict[str, Stream] = {"alone": lambda image: self.logits.log_softmax(1)}
        self.seconds: dict[str, float] = {}
        self._before: Tensor | None = None

    def add(self, name: str, stream: Stream) -> None:
        """Add a stream, alone and fused."""
        self.by_name[name] = stream

    def fuse(self) -> None:
        """Add every stream again, fused."""
        for name in list(self.by_name):
            latest = lambda image, name=name: self.found[name]  # noqa: E731
            self.by_name[f"{name}+fused"] = FusedStream(latest, self.flow, 0.9)

    def flow(self, image: Tensor, neighbour: Tensor) -> Tensor:
        """Return the flow, estimated once a pair."""
        key = image is self._image
        if key not in self._flows:
            self._flows[key] = self._flow(image, neighbour)
        return self._flows[key]

    def reset(self) -> None:
        """Start another video."""
        for stream in self.by_name.values():
            if hasattr(stream, "reset"):
                stream.reset()

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Predict the next frame by every stream."""
        self._image, self._flows, self.found = image, {}, {}
        self.logits = self._predict(image)
        for name, stream in self.by_name.items():
            start = time.perf_counter()
            self.found[name] = stream(image)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        return self.found


def measure(run: Run, streams: Streams, videos: list[Callable[[], Frames]]) -> dict[str, dict[str, float]]:
    """Measure all streams on some videos: name -> scores."""
    about = run.class_names, run.protocols[:1]
    metrics = {(name, part): MeanIoU(*about) for name in streams.by_name for part in ("all", "last")}
    for make in tqdm(videos, disable=None):
        streams.reset()
        for image, label, last in make():
            found = streams(image)
            if label is None:
                continue
            sample = Sample(image, label, ("",), (0,))
            for name, scores in found.items():
                for part in ("all", "last") if last else ("all",):
                    metrics[name, part].update(sample, scores, None)
    return {name: {part: metrics[name, part].compute()["mIoU"] for part in ("all", "last")} for name in streams.by_name}


def main() -> None:
    """Read the arguments, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="of a run of blda")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--calibration", type=Path, nargs="*", default=[], metavar="FILE", help="of blda calibrate")
    parser.add_argument("--video", action="store_true")
    parser.add_argument("--looks", nargs="+", default=LOOKS, choices=LOOKS)
    parser.add_argument("--drives", type=int, default=8)
    parser.add_argument("--frames", type=int, default=45)
    parser.add_argument("--first", type=int, default=FIRST_SEED, help="seed of the first drive")
    parser.add_argument("--tau", type=float, nargs="+", default=[0.3])
    parser.add_argument("--memory", type=float, nargs="+", default=[0.9])
    parser.add_argument("--prior", type=float, nargs="+", default=[1.0])
    parser.add_argument("--unfused", action="store_true", help="leave fusion out")
    given = parser.parse_intermixed_args()
    path = checkpoint_of(given.checkpoint)
    run, student = restored(path, given.overrides)
    states = checkpoint.read(path)
    source, target = run.losses.statistics("blda")
    checkpoint.restore(path, states, {"source_statistics": source, "target_statistics": target})
    streams = Streams(run.evaluation.predictor(student))
    last = lambda image: streams.logits  # noqa: E731
    fixed = alignment(target, source)
    for tau in given.tau:
        balance = Calibration(fixed, tau, run.class_names)
        streams.add(f"fixed {tau:g}", lambda image, balance=balance: balance(streams.logits))
    for file in given.calibration:
        balance = Calibration.load(file, run.class_names)
        streams.add(f"fitted {balance.tau:g}", lambda image, balance=balance: balance(streams.logits))
    for tau, memory, prior in product(given.tau, given.memory, given.prior):
        streams.add(f"streaming {tau:g} {memory:g} {prior:g}", AdaptiveStream(last, source, target, tau, memory, prior))
    if not given.unfused:
        streams.fuse()
    seeds = range(given.first, given.first + given.drives)
    if given.video:
        found = {"video": measure(run, streams, [lambda: video(run)])}
    else:
        found = {
            look: measure(run, streams, [lambda s=s, look=look: drive(run, s, look, given.frames) for s in seeds])
            for look in given.looks
        }
    total = sum(1 for _ in found) or 1
    print(json.dumps({"checkpoint": str(path), "looks": found, "seconds": streams.seconds, **circumstances("cpu")}, indent=1))


if __name__ == "__main__":
    main()
