"""Fitting a calibration to a network and its data, and measuring it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset
from tqdm import tqdm

from blda import atomic
from blda.balance.alignment import alignment
from blda.balance.logit_statistics import LogitStatistics
from blda.calibration.calibration_file import Calibration
from blda.calibration.fit import estimated, sampled_bias
from blda.calibration.tau_sweep import TauSweep, report
from blda.data.batches import PseudoLabels
from blda.data.loader import evaluation_loader
from blda.data.protocols import Protocol
from blda.data.sample import IGNORE, Sample
from blda.engine.evaluator import Evaluator
from blda.engine.inference import Predictor
from blda.engine.metrics import Metric, headline


@dataclass(frozen=True)
class Subject:
    """A network with what it is calibrated on.

    source: labelled samples. target: samples without labels; `pseudo_labeler` makes them from the network's own
    predictions. Both None where nothing is to be fitted.
    validation: labelled samples of the target, which nothing is fitted to; None where nothing is to be measured.
    protocol: of the scores without a protocol's name. metric: makes a fresh one, whose counts are the confusion.
    components, min_pixels: of the statistics. workers: processes that read. batch: samples at a time, more than one
    only where all have the same size. bar: show progress.
    """

    predict: Predictor
    source: Dataset[Sample] | None
    target: Dataset[Sample] | None
    validation: Dataset[Sample] | None
    pseudo_labeler: Callable[[Callable[[Tensor], Tensor], Sample], PseudoLabels]
    classes: tuple[str, ...]
    protocol: Protocol
    metric: Callable[[], Metric]
    accelerator: Accelerator
    components: int = 5
    min_pixels: int = 100
    workers: int = 0
    batch: int = 1
    bar: bool = True

    def statistics(self, passes: int) -> tuple[LogitStatistics, LogitStatistics]:
        """Statistics of source and target, each of all its samples together; see `calibration.estimated`."""
        settings = (len(self.classes), self.components, self.min_pixels, passes, self.accelerator.device)
        return estimated(self._source(), *settings), estimated(self._target(), *settings)

    def measure(self, calibration: Calibration, taus: Sequence[float]) -> dict[float, dict[str, float]]:
        """tau -> scores on the validation set, by one pass of the network; empty without one. See `TauSweep.scores`."""
        if self.validation is None:
            return {}
        sweep = TauSweep(calibration.to(self.accelerator.device), taus, self.metric)
        evaluate = Evaluator(
            self.validation, lambda: [sweep], self.accelerator, self.workers, self.bar, batch=self.batch
        )
        evaluate(self.predict)
        return sweep.scores()

    def _source(self) -> Iterator[tuple[Tensor, Tensor]]:
        for sample, logits in self._logits(self.source, "source"):
            yield logits, _at_size(sample.label, logits)

    def _target(self) -> Iterator[tuple[Tensor, Tensor]]:
        for sample, logits in self._logits(self.target, "target"):
            pseudo = self.pseudo_labeler(lambda _, seen=logits: seen, sample)
            yield logits, torch.where(pseudo.weight > 0, pseudo.label, IGNORE)

    def _logits(self, dataset: Dataset[Sample], title: str) -> Iterator[tuple[Sample, Tensor]]:
        """This process's share of the samples, with their logits."""
        accelerator = self.accelerator
        share = (accelerator.process_index, accelerator.num_processes)
        loader = evaluation_loader(dataset, self.workers, accelerator.device.type == "cuda", *share, self.batch)
        for sample in tqdm(loader, desc=title, disable=not (self.bar and accelerator.is_main_process), leave=False):
            sample = sample.to(accelerator.device)
            yield sample, self.predict(sample.image)


@dataclass(frozen=True)
class Calibrated:
    """A calibration with what is known of it.

    scores: tau -> scores on labels, empty without. biases: source, target, calibrated -> class -> bias, estimated
    without labels.
    """

    calibration: Calibration
    protocol: Protocol
    scores: dict[float, dict[str, float]]
    biases: dict[str, dict[str, float]]

    def numbers(self) -> dict[str, Any]:
        """As JSON knows them: scores in percent, bias as fractions."""
        calibration, scores = self.calibration, self.scores
        active = zip(calibration.classes, calibration.alignment.active.tolist(), strict=True)
        result = {
            "tau": calibration.tau,
            **calibration.origin,
            "labels_of_target": "the validation set's, for evaluation only" if scores else "none",
            "classes_not_corrected": [name for name, corrected in active if not corrected],
            "bias_without_labels": {title: atomic.finite(column) for title, column in self.biases.items()},
        }
        if not scores:
            return result
        before, after = scores[0.0], scores[calibration.tau]
        means = [key for key in ("mIoU", "mAcc", "std") if key in after]
        sweep = [{"tau": tau, **atomic.finite({key: at[key] for key in means})} for tau, at in scores.items()]
        measured = {"before": atomic.finite(before), "after": atomic.finite(after)}
        return {**result, "protocol": self.protocol.name, "sweep": sweep, **measured}

    def tables(self) -> str:
        """For the terminal."""
        tau, chosen = self.calibration.tau, self.calibration.origin["tau_chosen"]
        title = f"tau {tau:g} ({chosen}), protocol {self.protocol.name}; labels of the target: evaluation only"
        return f"{title}\n\n{report(self.scores, tau, self.protocol.classes, self.biases)}"


def calibrate(
    subject: Subject,
    taus: Sequence[float],
    choose: float | None,
    origin: Mapping[str, str],
    passes: int = 20,
    statistics: tuple[LogitStatistics, LogitStatistics] | None = None,
) -> Calibrated:
    """Fit, and measure each of `taus`.

    choose: the calibration's tau; None takes the best on the labels of the validation set, and records that.
    origin: what else to record. statistics: of source and target, where there is nothing to fit.
    """
    source, target = statistics or subject.statistics(passes)
    calibration = Calibration(alignment(target, source), choose or 0.0, subject.classes)
    scores = subject.measure(calibration, sorted({0.0, calibration.tau, *taus}))
    how = "given" if choose is not None else "best on the labels of the validation set"
    tau = _best(scores) if choose is None else choose
    calibration = replace(calibration, tau=tau, origin={**origin, "tau_chosen": how})
    biases = {"source": source.bias(), "target": target.bias(), "calibrated": sampled_bias(target, calibration)}
    named = {title: dict(zip(subject.classes, bias.tolist(), strict=True)) for title, bias in biases.items()}
    return Calibrated(calibration, subject.protocol, scores, named)


def _best(scores: Mapping[float, Mapping[str, float]]) -> float:
    known = {
        tau: result[headline(result)] for tau, result in scores.items() if not math.isnan(result[headline(result)])
    }
    if not known:
        raise ValueError("the validation set has no labelled pixel to choose tau on; give --choose a number")
    return max(known, key=known.__getitem__)


def _at_size(label: Tensor, logits: Tensor) -> Tensor:
    """A label (B, *S) of its file's size at that of its logits: the nearest, for between classes there is none."""
    if label.ndim == 1 or label.shape[-2:] == logits.shape[-2:]:
        return label
    return F.interpolate(label[:, None].float(), logits.shape[-2:], mode="nearest-exact")[:, 0].long()
