"""Measure time and memory of the parts of a training step, by network and mode; prints JSON.

    python benchmarks/step_time.py CONFIG [VARIANT ...] [key=value ...] [--steps 10] [--device cpu] [--synthetic]

`parts` lists the parts of a step in the order of their time: milliseconds (median over the steps), share of the step,
and the most memory held while they ran. A part's time excludes the parts that it calls; `rest` is time outside all
parts. `groups` sums the parts for which limits were set. On a GPU, times are measured between events in its queue, so
that the measurement adds no waits. On a CPU, memory is Linux's count for the process, taken in separate steps.

--synthetic takes random batches of the config's crops and random weights, so that no data and no weights are needed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from torch import nn

from blda.config import loading
from blda.config.schema import Config
from blda.engine import runtime
from blda.engine.trainer import Trainer
from blda_video.commands.command_line import one_line_errors
from blda_video.jobs import kinds
from part_clock import PartClock, watched
from runs import circumstances
from synthetic import synthetic

STEADY = ("log.bar=false", "self_training.burn_in=0")
"""Overrides for a step as most are; other values of these keys hold for the first steps alone."""
GROUPS = {
    "teacher on context": ("teacher on context",),
    "propagation": ("labels", "flow warps", "rule"),
    "statistics and alignment": ("statistics", "alignment"),
    "optimizer and EMA": ("optimizer", "EMA"),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("config", type=Path, help="YAML file")
    arguments.add_argument("overrides", nargs="*", metavar="key=value", help="or further config files")
    arguments.add_argument("--steps", type=int, default=10)
    arguments.add_argument("--device", choices=("cpu", "cuda"), help="by default what training takes")
    arguments.add_argument("--synthetic", action="store_true", help="random batches and weights")
    given = arguments.parse_intermixed_args()
    if given.device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    with one_line_errors(str(given.config), *given.overrides):
        print(json.dumps(measured(given.config, given.overrides, given.steps, given.synthetic), indent=1))


def measured(path: Path, overrides: list[str], steps: int, random: bool) -> dict[str, object]:
    """Measure one config and return its report."""
    if steps < 1:
        raise ValueError(f"--steps is {steps}; it must be at least 1")
    kind, compose = kinds.of_run(path, overrides)
    config = loading.load(path, kind, [*STEADY, *overrides])
    run = (synthetic(compose) if random else compose)(config, runtime.start(config.training.precision))
    if not random:
        run.prepare([config.method])
    device = run.accelerator.device
    with tempfile.TemporaryDirectory() as folder:
        trainer = run.trainer(config.method, Path(folder))
        times, peaks = step_parts(trainer, steps)
    found = {**circumstances(device.type), "threads": torch.get_num_threads(), **described(config, trainer.student)}
    return {**found, "synthetic": random, "steps": steps, **summary(times, peaks)}


def described(config: Config, student: nn.Module) -> dict[str, object]:
    """Describe the measured run."""
    training = config.training
    names = ("channels_last", "compile", "checkpointing")
    return {
        "mode": "video" if hasattr(config, "offsets") else "image",
        "method": config.method,
        "encoder": config.model.encoder,
        "head": config.model.head["name"],
        "parameters_M": round(sum(parameter.numel() for parameter in student.parameters()) / 1e6, 2),
        "batch": training.batch,
        "crop": config.source.crop,
        "precision": training.precision or "no",
        **{name: getattr(training, name) for name in names},
    }


def step_parts(trainer: Trainer, steps: int) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Milliseconds of every part in each step, and the peak memory of each part in megabytes."""
    clock = PartClock(trainer.accelerator.device)
    with watching(trainer, clock):
        batches = clock.iterated("data", trainer.batches(0))
        for _ in range(3):  # compiles, and fills the optimizer's state and the allocator's cache
            trainer.train_step(batches)
        clock.spans.clear()
        times = []
        for _ in range(steps):
            with clock.part("rest"):
                trainer.train_step(batches)
            times.append(clock.taken())
        with clock.remembering():
            trainer.train_step(batches)
    return times, clock.peaks


def summary(times: list[dict[str, float]], peaks: dict[str, float]) -> dict[str, object]:
    """Medians over the steps, by part and by group."""
    total = statistics.median(sum(step.values()) for step in times)
    names = {name for step in times for name in step}
    middle = {name: statistics.median(step.get(name, 0.0) for step in times) for name in names}

    def row(milliseconds: float, **more: float) -> dict[str, float]:
        return {"ms": round(milliseconds, 3), "share": round(milliseconds / total, 4), **more}

    order = sorted(names, key=lambda name: -middle[name])
    remembered = {name: {"peak_MB": round(peaks[name], 1)} if name in peaks else {} for name in names}
    groups = {title: sum(middle.get(name, 0.0) for name in members) for title, members in GROUPS.items()}
    return {
        "step_ms": round(total, 2),
        "peak_MB": round(max(peaks.values()), 1) if peaks else None,
        "groups": {title: row(milliseconds) for title, milliseconds in groups.items()},
        "parts": {name: row(middle[name], **remembered[name]) for name in order},
    }


@contextmanager
def watching(trainer: Trainer, clock: PartClock) -> Iterator[None]:
    """Context manager that times the parts of the trainer's step."""
    method, losses, seen = trainer.method, trainer.method.losses, defaultdict(int)

    def named_losses(*batch: object) -> Iterator[tuple[str, torch.Tensor]]:
        seen.clear()
        for name, loss in losses(*batch):
            clock.rename("forward", f"{name} forward")
            clock.rename("loss", f"{name} loss")
            seen["loss"] = name
            yield name, loss

    def teacher() -> str:
        seen["teacher"] += 1
        return "teacher" if seen["teacher"] == 1 else "teacher on context"

    names = {
        "blda.selftraining.teacher.Teacher.forward": teacher,
        "blda.selftraining.teacher.Teacher.update": "EMA",
        "blda.balance.logit_statistics.LogitStatistics.update": "statistics",
        "blda.balance.balanced_loss.alignment": "alignment",
        "blda.balance.balanced_loss.alignments": "alignment",
        "blda.balance.balanced_loss.balanced_cross_entropy": "loss",
        "blda.selftraining.criterion.cross_entropy": "loss",
        "blda.selftraining.feature_distance.FeatureDistance.distance": "feature distance",
        "blda_video.propagation.propagated_labels.warp": "flow warps",
    }
    objects = [
        (method, "student", "forward"),
        (method, "pseudo_labeler", "labels"),
        (getattr(method, "pseudo_labeler", None), "rule", "rule"),
        (method, "mixer", "mixing"),
        (method, "augment", "augmentation"),
        (getattr(method, "masked", None), "mask", "masking"),
        (trainer.accelerator, "backward", lambda: f"{seen['loss']} backward"),
        (trainer.accelerator, "clip_grad_norm_", "clipping"),
        (trainer.optimizer, "step", "optimizer"),
        (trainer.optimizer, "zero_grad", "optimizer"),
    ]
    with ExitStack() as stack:
        for name, part in names.items():
            stack.enter_context(watched(name, clock, part))
        for owner, attribute, part in objects:
            if hasattr(owner, attribute):
                stack.enter_context(watched((owner, attribute), clock, part))
        method.losses = named_losses
        stack.callback(lambda: delattr(method, "losses"))
        yield


if __name__ == "__main__":
    main()
