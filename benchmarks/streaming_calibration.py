"""Measure the gain of statistics that follow a video, on drives whose look changes on the way; prints JSON.

    python benchmarks/streaming_calibration.py CHECKPOINT [--calibration FILE] [--drives 12] [key=value ...]
    python benchmarks/streaming_calibration.py CHECKPOINT --video [key=value ...]

Unseen drives of the street world in the target's look are predicted frame by frame: clear all the way, or changing to
dusk, rain or another camera from the first third on; the last third has changed entirely
(benchmarks/changing_looks.py). --video streams the run's own evaluation video instead.

Every frame is predicted once for all streams: alone; checkpoint, corrected by the fixed statistics of the checkpoint;
fitted, by a file of blda calibrate; streaming, by statistics that follow the video (blda predict --adapt), one for each
--tau, --memory and --prior; and each of them fused along DIS flow (blda predict --fuse). mIoU in percent by the run's
first protocol, over all frames and over those of the last third, and milliseconds a frame beside the network. Labels
are used for measuring only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from blda.balance.alignment import alignment
from blda.build.run import Run
from blda.calibration.calibration_file import Calibration
from blda.data.label_map import CITYSCAPES19
from blda.data.sample import IGNORE, Sample
from blda.data.segmentation_dataset import image_tensor, label_tensor, read_frame
from blda.data.transforms import whole
from blda.engine import checkpoint
from blda.engine.metrics import MeanIoU
from blda_video.flow.dis import DIS
from blda_video.jobs.restored_run import checkpoint_of, restored
from blda_video.stream.adaptive_stream import MEMORY, PRIOR, TAU, AdaptiveStream
from blda_video.stream.fused_stream import FusedStream
from blda_video.street_world.simulator.world import World
from changing_looks import LOOKS, amount, changed
from runs import circumstances

SIZE = (128, 256)
DECAY = 0.9
Stream = Callable[[Tensor], Tensor]
Frames = Iterator[tuple[Tensor, Tensor | None, bool]]
"""Image (1, 3, H, W), labels (1, H, W) or None, and whether the frame belongs to the last third."""


def drive(run: Run, seed: int, look: str, frames: int) -> Frames:
    """Yield the frames of one drive."""
    world, names = World("target", seed, SIZE, frames), run.class_names
    classes = torch.full((256,), IGNORE)
    for index, name in enumerate(CITYSCAPES19):
        classes[index] = names.index(name) if name in names else IGNORE
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
    """Streams that share the network's prediction, and the flow between two frames."""

    def __init__(self, predict: Stream) -> None:
        self._predict, self._estimate = predict, DIS("medium")
        self.streams: dict[str, Stream] = {"alone": lambda _: self.logits.log_softmax(1)}
        self.seconds: dict[str, float] = {}

    def latest(self, _: Tensor) -> Tensor:
        """Return the network's logits of the present frame."""
        return self.logits

    def calibrated(self, name: str, calibration: Calibration) -> None:
        """Add a stream of single frames corrected by a fixed calibration."""
        self.streams[name] = lambda _: calibration(self.logits)

    def fused(self, name: str) -> None:
        """Add the stream `name` again, fused along the flow."""
        self.streams[f"{name} + fusion"] = FusedStream(lambda _: self.found[name], self._flow, DECAY)

    def reset(self) -> None:
        """Start another video."""
        for stream in self.streams.values():
            if hasattr(stream, "reset"):
                stream.reset()

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Return the scores (1, C, H, W) of the next frame by each stream."""
        self._image, self._flows, self.found = image, {}, {}
        self.logits = self._predict(image)
        for name, stream in self.streams.items():
            start = time.process_time()
            self.found[name] = stream(image)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start
        return self.found

    def _flow(self, image: Tensor, neighbour: Tensor) -> Tensor:
        forward = image is self._image
        if forward not in self._flows:
            self._flows[forward] = self._estimate(image, neighbour)
        return self._flows[forward]


def measure(run: Run, streams: Streams, videos: list[Callable[[], Frames]], title: str) -> dict[str, dict[str, float]]:
    """Measure all streams on some videos: name -> mIoU of `all` frames and of the `last` third."""
    about = run.class_names, run.protocols[:1]
    metrics = {(name, part): MeanIoU(*about) for name in streams.streams for part in ("all", "last")}
    for frames in tqdm(videos, desc=title, disable=not run.config.log.bar):
        streams.reset()
        for image, label, last in frames():
            for name, scores in streams(image).items():
                for part in ("all", "last") if last else ("all",):
                    if label is not None:
                        metrics[name, part].update(Sample(image, label, ("",), (0,)), scores, streams.latest)
    scores = {key: metric.compute()["mIoU"] for key, metric in metrics.items()}
    return {name: {part: round(scores[name, part], 2) for part in ("all", "last")} for name in streams.streams}


def streams_of(given: argparse.Namespace) -> tuple[Run, Streams]:
    """Restore the run and make all its streams."""
    path = checkpoint_of(given.checkpoint)
    run, student = restored(path, given.overrides)
    source, target = run.losses.statistics("blda")
    states = {"source_statistics": source, "target_statistics": target}
    checkpoint.restore(path, checkpoint.read(path), states)
    streams, fixed = Streams(run.evaluation.predictor(student)), alignment(target, source)
    for tau in given.tau:
        streams.calibrated(f"checkpoint, tau {tau:g}", Calibration(fixed, tau, run.class_names))
        for file in given.calibration or ():
            fitted = replace(Calibration.load(file, run.class_names), tau=tau)
            streams.calibrated(f"fitted, tau {tau:g}", fitted)
    for tau, memory, prior in product(given.tau, given.memory, given.prior):
        name = f"streaming, tau {tau:g}, memory {memory:g}, prior {prior:g}"
        streams.streams[name] = AdaptiveStream(streams.latest, source, target, tau, memory, prior)
    for name in list(streams.streams) if given.fuse else ():
        streams.fused(name)
    return run, streams


def main() -> None:
    """Read the arguments, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="of a run of the method blda")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a key of the run's config")
    parser.add_argument("--calibration", type=Path, nargs="*", metavar="FILE", help="made by blda calibrate")
    parser.add_argument("--video", action="store_true", help="stream the run's evaluation video")
    parser.add_argument("--looks", nargs="+", default=LOOKS, choices=LOOKS)
    parser.add_argument("--drives", type=int, default=12, help="number of drives of each look")
    parser.add_argument("--frames", type=int, default=20, help="frames of a drive")
    parser.add_argument("--first", type=int, default=5000, help="seed of the first drive")
    parser.add_argument("--tau", type=float, nargs="+", default=[TAU])
    parser.add_argument("--memory", type=float, nargs="+", default=[MEMORY])
    parser.add_argument("--prior", type=float, nargs="+", default=[PRIOR])
    parser.add_argument("--no-fusion", dest="fuse", action="store_false", help="leave fusion out")
    given = parser.parse_intermixed_args()
    run, streams = streams_of(given)
    kinds = {"video": [lambda: video(run)]}
    if not given.video:
        seeds = range(given.first, given.first + given.drives)
        kinds = {k: [lambda s=s, k=k: drive(run, s, k, given.frames) for s in seeds] for k in given.looks}
    measured = {title: measure(run, streams, videos, title) for title, videos in kinds.items()}
    frames = len(given.looks) * given.drives * given.frames
    frames = len(run.data.readers.evaluation().frames) if given.video else frames
    cost = {name: round(1000 * seconds / frames, 1) for name, seconds in streams.seconds.items()}
    about = {"checkpoint": str(given.checkpoint), "protocol": run.protocols[0].name, "frames": frames}
    print(json.dumps({**about, "mIoU": measured, "ms_a_frame": cost, **circumstances("cpu")}, indent=1))


if __name__ == "__main__":
    main()
