"""Training loop of every method: backward, optimizer, schedule, checkpoint and log."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch import distributed as dist
from torch.optim import Optimizer
from tqdm import tqdm

from blda.data.sample import Sample
from blda.engine import checkpoint, optim, runtime
from blda.engine.evaluator import Evaluator
from blda.engine.inference import Predictor
from blda.engine.metrics import headline
from blda.engine.run_log import RunLog

Batches = Callable[[int], Iterator[tuple[Sample, Sample | None]]]


class Method(Protocol):
    """Interface of a training method; see blda/selftraining/self_training.py."""

    def losses(self, source: Sample, target: Sample | None) -> Iterator[tuple[str, Tensor]]: ...

    def after_step(self, student: nn.Module) -> None: ...

    def state(self) -> Mapping[str, checkpoint.Stateful]: ...

    def numbers(self) -> dict[str, Tensor]: ...

    def pictures(self) -> dict[str, Tensor]: ...

    def figures(self) -> dict[str, Tensor]: ...

    def validation(self, scores: Mapping[str, float]) -> dict[str, float]: ...


@dataclass(frozen=True)
class Plan:
    """Schedule of a run, in steps; the learning rate decays to zero at `steps`."""

    steps: int
    warmup: int
    accumulate: int
    clip: float | None
    evaluate_every: int
    checkpoint_every: int
    log_every: int
    pictures_every: int
    keep: int
    seed: int

    def __post_init__(self) -> None:
        counts = {
            "training.steps": self.steps,
            "training.accumulate": self.accumulate,
            "training.checkpoint_every": self.checkpoint_every,
            "training.keep": self.keep,
            "evaluation.every": self.evaluate_every,
            "log.every": self.log_every,
            "log.pictures": self.pictures_every,
        }
        for key, count in counts.items():
            if count < 1:
                raise ValueError(f"{key} is {count}; it must be at least 1")


class TrainingStopped(RuntimeError):
    """Error of a loss that is not finite; the message names the step and the last good checkpoint."""


class Trainer:
    """Trainer of one method; it owns all state that survives a restart.

    student: bare model; the method calls it through Accelerate's wrapper. batches: maps the number of finished passes
    to the endless stream of (source, target) on the device. folder: of this run, holds the checkpoints. counts: returns
    further numbers of this process for the log; they are summed over all processes. predict: predicts whole images with
    the student; by default in one pass.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        method: Method,
        student: nn.Module,
        optimizer: Optimizer,
        batches: Batches,
        evaluator: Evaluator,
        log: RunLog,
        folder: Path,
        plan: Plan,
        counts: Callable[[], Mapping[str, int]] = dict,
        predict: Predictor | None = None,
    ) -> None:
        self.accelerator, self.method, self.student, self.optimizer = accelerator, method, student, optimizer
        self.batches, self.evaluator, self.log, self.folder, self.plan = batches, evaluator, log, folder, plan
        self.counts, self.predict = counts, predict or Predictor(student, accelerator.autocast)
        self.step, self.best = 0, (-math.inf, 0)
        self.identity: dict[str, Any] = {}
        """Values that tell which run this is, in every checkpoint; see `checkpoint.load`."""
        self._finite = torch.ones((), dtype=torch.bool, device=accelerator.device)
        self._verdict: runtime.AsyncScalar | None = None
        self._seen: dict[str, list[Tensor]] = {}
        self._since, self._began = 0, time.perf_counter()

    def fit(self, until: int | None = None) -> dict[str, float]:
        """Train to the end and evaluate; return the scores, None if a signal or step `until` stopped training before.

        Raises TrainingStopped when a loss is not finite.
        """
        end = min(until or self.plan.steps, self.plan.steps)
        scores: dict[str, float] = {}
        batches = self.batches(self.step * self.plan.accumulate)
        with runtime.StopSignal() as stop, self._bar() as bar:
            while self.step < end and not self._stopped(stop):
                self.train_step(batches)
                scores = self._after_step(bar)
            if self._stopped(stop, wait=True):
                self.save()
                if self.accelerator.is_main_process:
                    tqdm.write(f"stopped by a signal at step {self.step}: saved, continue with --resume", sys.stderr)
                return {}
        self.save()
        if end == self.plan.steps and not scores:
            scores = self.evaluate()
            self.save()
        return scores

    def train_step(self, batches: Iterator[tuple[Sample, Sample | None]]) -> None:
        """Run one optimizer step: every loss of the method, each followed by its own backward."""
        plan = self.plan
        runtime.seed_step(plan.seed, self.accelerator.process_index, self.step)
        optim.set_rate(self.optimizer, optim.rate(self.step, plan.warmup, plan.steps))
        for _ in range(plan.accumulate):
            source, target = next(batches)
            for name, loss in self.method.losses(source, target):
                self.accelerator.backward(loss / plan.accumulate)
                self._finite = self._finite & loss.detach().isfinite()
                self._seen.setdefault(name, []).append(loss.detach())
        if plan.clip is not None:
            norm = self.accelerator.clip_grad_norm_(self._trained(), plan.clip)
            self._seen.setdefault("gradient_norm", []).append(norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.method.after_step(self.student)
        self.step += 1
        self._since += 1

    def evaluate(self) -> dict[str, float]:
        """Evaluate the student, log the scores, and remember the best score with its step."""
        self._share_buffers()
        result = self.evaluator(self.predict)
        judged = headline(result.scores)
        if result.scores.get(judged, -math.inf) > self.best[0]:
            self.best = (result.scores[judged], self.step)
        best = {f"best_on_validation/{judged}": self.best[0], "best_on_validation/step": self.best[1]}
        scores = {**result.scores, **self.method.validation(result.scores), **best}
        self.log.scores(self.step, scores, result.confusion)
        if result.first is not None:
            self.log.prediction(self.step, *result.first)
        return scores

    def save(self) -> None:
        """Write the checkpoint of this step; raises TrainingStopped instead if a loss or weight is not finite."""
        self._share_buffers()
        for parameter in self._trained():
            self._finite = self._finite & parameter.detach().isfinite().all()
        self._agree(False, wait=True)
        if self.accelerator.is_main_process:
            checkpoint.save(checkpoint.path_of(self.folder, self.step), self.state(), self.identity)
            checkpoint.keep_last(self.folder, self.plan.keep)
        self.accelerator.wait_for_everyone()

    def resume(self) -> None:
        """Continue from the newest checkpoint of the folder."""
        newest = checkpoint.latest(self.folder)
        if newest is None:
            raise FileNotFoundError(f"nothing to resume: no step_*.pt in {self.folder}; start without --resume")
        settings = [{key: group[key] for key in ("peak", "weight_decay")} for group in self.optimizer.param_groups]
        checkpoint.load(newest, self.state(), self.identity)
        # These are the config's to say, which may have changed; the optimizer's state would bring the old ones back.
        for group, own in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(own)

    def state(self) -> dict[str, checkpoint.Stateful]:
        """Return all objects whose state survives a restart, by name."""
        scaler = {"scaler": self.accelerator.scaler} if self.accelerator.scaler is not None else {}
        return {"trainer": self, "student": self.student, "optimizer": self.optimizer, **scaler, **self.method.state()}

    def state_dict(self) -> dict[str, Any]:
        """Return the step and the best validation score."""
        return {"step": self.step, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set the step and the best validation score."""
        self.step, self.best = state["step"], tuple(state["best"])

    def _trained(self) -> list[nn.Parameter]:
        """Return the parameters of the optimizer: the student's, and those of heads that only training has."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _after_step(self, bar: tqdm) -> dict[str, float]:
        plan, scores = self.plan, {}
        bar.update()
        if self.step % plan.log_every == 0:
            self._log_numbers(bar)
        if self.step % plan.pictures_every == 0:
            self.log.pictures(self.step, self.method.pictures())
            self.log.figures(self.step, self.method.figures)
        evaluates = self.step % plan.evaluate_every == 0 or self.step == plan.steps
        # Before an evaluation too: what goes wrong there must not cost the steps done.
        if evaluates or self.step % plan.checkpoint_every == 0:
            self.save()
        if evaluates:
            scores = self.evaluate()
            self.save()  # with the best score in it
        return scores

    def _share_buffers(self) -> None:
        """Copy BatchNorm's running statistics from the main process to all, as each has its own after a step."""
        if self.accelerator.num_processes > 1:
            for buffer in self.student.buffers():
                dist.broadcast(buffer, 0)

    def _stopped(self, stop: runtime.StopSignal, wait: bool = False) -> bool:
        return self._agree(stop.received is not None, wait)

    def _agree(self, stop: bool, wait: bool = False) -> bool:
        """Return whether any process was asked to stop; raises TrainingStopped on all when any loss was not finite.

        Without `wait` this reads the result of the call before, which has arrived by now.
        """
        mine = torch.stack((~self._finite, torch.full_like(self._finite, stop))).float()
        latest = runtime.AsyncScalar(self.accelerator.reduce(mine, "sum"))
        verdict, self._verdict = (latest if wait or self._verdict is None else self._verdict), latest
        unfinite, stopped = verdict.tolist()
        if unfinite:
            good = checkpoint.latest(self.folder)
            raise TrainingStopped(
                f"a loss up to step {self.step} is not finite; last good checkpoint: {good or 'none'}. "
                "Lower optimizer.lr, set optimizer.clip, or use training.precision=no"
            )
        return bool(stopped)

    def _log_numbers(self, bar: tqdm) -> None:
        """Log means over the steps since the last line; the values stay on the device until then."""
        names = sorted(self._seen)
        own = torch.stack([torch.stack(self._seen[name]).float().mean() for name in names])
        means = dict(zip(names, self.accelerator.reduce(own, "mean").tolist(), strict=True))
        now = time.perf_counter()
        bar.set_postfix({name: f"{value:.3f}" for name, value in means.items()})
        losses = {f"loss/{name}" if name != "gradient_norm" else name: value for name, value in means.items()}
        pace = {
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds_per_step": (now - self._began) / self._since,
        }
        self.log.numbers(self.step, {**losses, **pace, **self._totals()}, self.method.numbers())
        self._seen, self._since, self._began = {}, 0, time.perf_counter()

    def _totals(self) -> dict[str, int]:
        """Sum the counts over all processes."""
        counts = self.counts()
        if not counts:
            return {}
        own = torch.tensor(list(counts.values()), device=self.accelerator.device)
        return dict(zip(counts, self.accelerator.reduce(own, "sum").tolist(), strict=True))

    def _bar(self) -> tqdm:
        return tqdm(initial=self.step, total=self.plan.steps, desc=self.folder.name, disable=not self.log.bar)
