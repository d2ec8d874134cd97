"""Training of the network that tells classes by optical flow, on the labelled clips of the source."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from blda.build.batch_stream import BatchStream
from blda.build.data_factory import joined
from blda.build.reader_factory import ReaderFactory, class_names
from blda.data import seeding
from blda.data.joined_dataset import JoinedDataset
from blda.data.sample import IGNORE
from blda.engine import runtime
from blda_video.build import READERS, ClipData
from blda_video.clips.clip import Clip
from blda_video.clips.clip_dataset import ClipDataset
from blda_video.jobs import kinds
from blda_video.propagation.motion_network import MotionNetwork

RATE = 2e-3
WARMUP = 0.1
"""Part of the steps in which the rate rises; then it falls along a cosine."""
JUDGED = 0.1
"""Part of the steps, the last, whose accuracy is told."""
EXAMPLE = "add motion={weights: runs/NAME/motion.pt}"


@dataclass(frozen=True)
class TrainedMotion:
    """Result of a training. path: the network's file. accuracy: right pixels of its last tenth, in percent.

    commonest: accuracy of always saying the commonest class, in percent.
    """

    path: Path
    accuracy: float
    commonest: float


class LabelledClips(ClipData):
    """Data of a run whose source gives clips, with its labels and its flow."""

    def source(self, distorted: bool = False) -> ClipDataset | JoinedDataset:
        """Labelled clips of all data sets of the source."""
        return joined(self.config, "source", self.source_clips)


def train_motion(config: str, overrides: Sequence[str] = ()) -> TrainedMotion:
    """Train the network that the config's `motion.weights` names, and write it there.

    config: YAML file, or the name of a shipped config. overrides: key=value, further files, names of shipped variants.
    Raises ValueError and OSError for what a user can mend.
    """
    loaded, _ = kinds.loaded(config, overrides, "video")
    motion = loaded.motion
    if motion is None:
        raise ValueError(f"the config has no motion to train; {EXAMPLE}")
    if not loaded.offsets:
        raise ValueError("offsets is empty, so there is no flow to learn from; set offsets=[-1, 1]")
    accelerator = runtime.start("no")
    if accelerator.num_processes > 1:
        raise ValueError("the motion network is trained by one process; start blda train-motion without accelerate")
    loaded = replace(loaded, training=replace(loaded.training, batch=motion.batch))
    data = LabelledClips(ReaderFactory(loaded, READERS))
    data.make()
    return _trained(data, accelerator, motion.steps, Path(motion.weights))


def _trained(data: LabelledClips, accelerator: Accelerator, steps: int, path: Path) -> TrainedMotion:
    config, classes = data.config, class_names(data.config)
    batches = BatchStream(data, accelerator).batches(adapts=False)(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeding.seed_of(config.seed, "motion"))
        network = MotionNetwork(classes, config.offsets).to(accelerator.device)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.01)
    right, counted = torch.zeros_like(network.count[0]), torch.zeros_like(network.count)
    for step, (flow, valid, label) in enumerate(_inputs(batches, steps)):
        optimizer.param_groups[0]["lr"] = RATE * _rate(step / steps)
        logits = network(flow, valid)
        F.cross_entropy(logits, label, ignore_index=IGNORE).backward()
        optimizer.step()
        optimizer.zero_grad()
        pixels = torch.bincount(label[label != IGNORE], minlength=len(classes))
        network.count += pixels
        if step >= (1 - JUDGED) * steps:
            right += (logits.detach().argmax(1) == label).sum()
            counted += pixels
    if not all(parameter.isfinite().all() for parameter in network.parameters()):
        raise ValueError("the motion network's weights are not finite, and were not written; look at the source's flow")
    network.save(path)
    percent = 100 / max(int(counted.sum()), 1)
    return TrainedMotion(path, percent * int(right), percent * int(counted.max()))


def _inputs(batches: Iterator[tuple[Clip, None]], steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield flow, validity and labels of as many batches, with a bar."""
    for _ in tqdm(range(steps), desc="motion"):
        clip, _ = next(batches)
        yield clip.flow, clip.valid, clip.label


def _rate(part: float) -> float:
    """Return the factor of the rate after a part of the steps."""
    return part / WARMUP if part < WARMUP else 0.5 + 0.5 * math.cos(math.pi * (part - WARMUP) / (1 - WARMUP))
