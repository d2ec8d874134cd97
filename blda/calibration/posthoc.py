"""Post-hoc calibration: fit it to a network and its data, and measure its scores."""

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
from blda.calibration.fit import fit_statistics, sampled_bias
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
    """A network to calibrate, with its data and settings.

    predict: the network, images (B, 3, H, W) -> logits.
    source: labelled samples; None if statistics are given.
    target: samples without labels; None if statistics are given.
    validation: labelled samples of the target, for evaluation only; None to measure nothing.
    pseudo_labeler: makes the target's pseudo-labels from the network's own predictions.
    classes: the C class names, in the order of the logits.
    protocol: evaluation protocol of the scores whose keys name no protocol.
    metric: returns a new metric whose `counts` are the confusion matrix.
    accelerator: device and processes.
    components, min_pixels: settings of the statistics; see `fit_statistics`.
    workers: number of loader processes.
    batch: samples a batch; above 1 only if all samples have the same size.
    bar: show progress bars.
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
        """Fit the statistics of source and target, each to all its samples; see `fit_statistics`."""
        settings = (len(self.classes), self.components, self.min_pixels, passes, self.accelerator.device)
        return fit_statistics(self._source(), *settings), fit_statistics(self._target(), *settings)

    def measure(self, calibration: Calibration, taus: Sequence[float]) -> dict[float, dict[str, float]]:
        """Measure the scores of every tau on the validation set, by one pass of the network: tau -> scores.

        Empty without a validation set; see `TauSweep.scores`.
        """
        if self.validation is None:
            return {}
        sweep = TauSweep(calibration.to(self.accelerator.device), taus, self.metric)
        evaluate = Evaluator(
            self.validation, lambda: [sweep], self.accelerator, self.workers, self.bar, batch=self.batch
        )
        evaluate(self.predict)
        return sweep.scores()

    def _source(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield logits and labels of the source."""
        for sample, logits in self._logits(self.source, "source"):
            yield logits, _at_size(sample.label, logits)

    def _target(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield logits and pseudo-labels of the target; IGNORE where a pseudo-label has weight 0."""
        for sample, logits in self._logits(self.target, "target"):
            pseudo = self.pseudo_labeler(lambda _, predicted=logits: predicted, sample)
            yield logits, torch.where(pseudo.weight > 0, pseudo.label, IGNORE)

    def _logits(self, dataset: Dataset[Sample], title: str) -> Iterator[tuple[Sample, Tensor]]:
        """Yield this process's share of the samples with their logits."""
        accelerator = self.accelerator
        share = (accelerator.process_index, accelerator.num_processes)
        loader = evaluation_loader(dataset, self.workers, accelerator.device.type == "cuda", *share, self.batch)
        for sample in tqdm(loader, desc=title, disable=not (self.bar and accelerator.is_main_process), leave=False):
            sample = sample.to(accelerator.device)
            yield sample, self.predict(sample.image)


@dataclass(frozen=True)
class Calibrated:
    """A calibration with its scores and estimated biases.

    protocol: evaluation protocol of the scores.
    scores: tau -> scores on the validation set; empty without one.
    biases: "source", "target" or "calibrated" -> class name -> bias, estimated without labels.
    """

    calibration: Calibration
    protocol: Protocol
    scores: dict[float, dict[str, float]]
    biases: dict[str, dict[str, float]]

    def numbers(self) -> dict[str, Any]:
        """Return a report for JSON: scores in percent, bias as fractions."""
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
        """Return a report for the terminal."""
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
    """Fit a calibration and measure it with each of `taus`.

    choose: the calibration's tau; None takes the best on the labels of the validation set, and records that.
    origin: further entries of the calibration's origin.
    passes: see `fit_statistics`.
    statistics: statistics of source and target, to use instead of fitting them.
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
    """Return the tau with the highest headline score; ValueError if no score is known."""
    known = {
        tau: result[headline(result)] for tau, result in scores.items() if not math.isnan(result[headline(result)])
    }
    if not known:
        raise ValueError("the validation set has no labelled pixel to choose tau on; give a number with --choose")
    return max(known, key=known.__getitem__)


def _at_size(label: Tensor, logits: Tensor) -> Tensor:
    """Resize a label map (B, *S) to the size of its logits, to the nearest pixel."""
    if label.ndim == 1 or label.shape[-2:] == logits.shape[-2:]:
        return label
    return F.interpolate(label[:, None].float(), logits.shape[-2:], mode="nearest-exact")[:, 0].long()
