"""A dry run: builds all that a run needs, takes a few steps of each method, and tells what the run will cost."""

from __future__ import annotations

import dataclasses
import json
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator

from blda.build.run import Run
from blda.config.schema import Config
from blda.engine import checkpoint, launcher, runtime
from blda.engine.trainer import Trainer
from blda_video.jobs import kinds

_LOG = logging.getLogger(__name__)
STEPS = {"cpu": (1, 2), "cuda": (4, 8)}
"""Device -> steps before timing, and timed steps. A GPU tunes its kernels and captures graphs in the first ones."""
IMAGES = 3
"""Evaluated images; the first one starts the loader, and its time does not count unless it is the only one."""


@dataclass(frozen=True)
class Cost:
    """Cost of training one method.

    parameters: trained ones. memory: largest so far of this process, in bytes, on the GPU or, without one, of the
    whole process. step, image: seconds of a training step and of an evaluated image. checkpoint: bytes of a file.
    saved: seconds to write one. total: seconds of the run, with evaluations and checkpoints.
    """

    method: str
    parameters: int
    memory: int
    step: float
    image: float
    checkpoint: int
    saved: float
    total: float

    def line(self) -> str:
        """Return one line for people."""
        return (
            f"{self.method}: {self.parameters / 1e6:.1f} M parameters, {self.memory / 2**30:.2f} GiB, "
            f"{self.step:.3f} s a step, {self.image:.3f} s an evaluated image, checkpoints of "
            f"{self.checkpoint / 2**20:.0f} MiB; about {_duration(self.total)} in all"
        )

    def numbers(self) -> dict[str, float]:
        """Return the numbers of `line`, with their units in their names."""
        return {
            "parameters": self.parameters,
            "memory_bytes": self.memory,
            "seconds_per_step": self.step,
            "seconds_per_image": self.image,
            "checkpoint_bytes": self.checkpoint,
            "seconds_to_save": self.saved,
            "seconds_in_all": self.total,
        }


def as_text(costs: Sequence[Cost]) -> str:
    """Return a line for each method, empty without any."""
    return "\n".join(cost.line() for cost in costs)


def as_json(costs: Sequence[Cost]) -> str:
    """Return the numbers of each method by its name, empty without any."""
    return json.dumps({cost.method: cost.numbers() for cost in costs}, indent=1) if costs else ""


def dry_run(config: str, overrides: Sequence[str] = (), kind: str | None = None) -> list[Cost]:
    """Take a few steps of every method of a config, on its own data; nothing of it is kept but counts of classes.

    config, overrides, kind: see `blda_video.jobs.training_job.train_config`. The burn-in is left out, so that a step
    has all of its losses. Missing pretrained weights are replaced by random ones, with a warning. Returns one cost for
    each method, in the main process only. Raises what training would raise otherwise.
    """
    loaded, compose = kinds.loaded(config, overrides, kind)
    launcher.require_accumulation(loaded.training.accumulate)
    accelerator = runtime.start(launcher.agreed_precision(loaded.training.precision))
    costs = measured(loaded, compose, accelerator)
    return costs if accelerator.is_main_process else []


def measured(config: Config, compose: Callable[[Config, Accelerator], Run], accelerator: Accelerator) -> list[Cost]:
    """Measure the methods of a loaded config, one after the other, in a temporary folder."""
    whole = dataclasses.replace(config, self_training=dataclasses.replace(config.self_training, burn_in=0))
    run = compose(whole, accelerator)
    run.prepare(config.methods)
    _allow_missing_weights(run, config.methods)
    costs = []
    with tempfile.TemporaryDirectory(prefix="blda-dry-run-") as folder:
        for method in config.methods:
            trainer = run.trainer(method, Path(folder) / method)
            costs.append(_cost(method, trainer, accelerator))
            trainer.log.close()
            del trainer
            accelerator.free_memory()
    return costs


def _allow_missing_weights(run: Run, methods: Sequence[str]) -> None:
    """Measure with random weights where pretrained ones are missing: time and memory do not depend on them."""
    try:
        student = run.networks.student()
        for method in methods:
            run.networks.frozen(method, student, nullcontext)
    except FileNotFoundError as error:
        run.networks.pretrained = False
        if run.accelerator.is_main_process:
            _LOG.warning("warning: measured with random weights, because training would stop: %s", error)


def _cost(method: str, trainer: Trainer, accelerator: Accelerator) -> Cost:
    plan, before = trainer.plan, STEPS["cuda" if accelerator.device.type == "cuda" else "cpu"]
    batches = trainer.batches(0)
    for _ in range(before[0]):
        trainer.train_step(batches)
    step = _seconds(accelerator, lambda: [trainer.train_step(batches) for _ in range(before[1])]) / before[1]
    image = _evaluated(trainer, accelerator)
    saved = _seconds(accelerator, trainer.save)
    file = checkpoint.latest(trainer.folder)
    evaluations = -(-plan.steps // plan.evaluate_every)
    total = plan.steps * step + evaluations * len(trainer.evaluator.loader) * image
    total += (2 * evaluations + plan.steps // plan.checkpoint_every) * saved
    parameters = sum(each.numel() for group in trainer.optimizer.param_groups for each in group["params"])
    size = file.stat().st_size if file is not None else 0
    return Cost(method, parameters, _memory(accelerator), step, image, size, saved, total)


def _evaluated(trainer: Trainer, accelerator: Accelerator) -> float:
    """Return the seconds of an evaluated image, with reading it and measuring its prediction."""
    evaluator, metrics = trainer.evaluator, trainer.evaluator.metrics()

    def evaluate() -> None:
        evaluator.measure(next(samples), trainer.predict, metrics)

    samples = iter(evaluator.loader)
    images = min(len(evaluator.loader), IMAGES)
    seconds = [_seconds(accelerator, evaluate) for _ in range(images)]
    return sum(seconds[1:]) / (images - 1) if images > 1 else sum(seconds)


def _seconds(accelerator: Accelerator, action: Callable[[], object]) -> float:
    """Return how long an action takes, the work that it leaves to a GPU included."""
    began = time.perf_counter()
    action()
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize(accelerator.device)
    return time.perf_counter() - began


def _memory(accelerator: Accelerator) -> int:
    if accelerator.device.type == "cuda":
        return torch.cuda.max_memory_reserved(accelerator.device)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def _duration(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
