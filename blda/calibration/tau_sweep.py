"""Scores of calibrations that differ in their strength tau, measured on the same logits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from blda.calibration.calibration_file import Calibration
from blda.data import measured_bias
from blda.data.sample import Sample
from blda.engine import score_table
from blda.engine.metrics import Metric


class TauSweep:
    """A metric that accumulates the confusion matrix of every tau during one pass of the network.

    calibration: the calibration; its own tau is not used.
    taus: the T strengths to measure.
    metric: returns a new metric whose `counts` are the confusion matrix (C, C).
    The attribute `counts` is (T, C, C) float64, additive over images and processes; rows are the true classes.
    """

    def __init__(self, calibration: Calibration, taus: Sequence[float], metric: Callable[[], Metric]) -> None:
        self.calibrations = [replace(calibration, tau=tau) for tau in taus]
        self.classes, self.metric = calibration.classes, metric
        self.counts = torch.zeros(len(taus), len(self.classes), len(self.classes), dtype=torch.float64)

    def update(self, sample: Sample, logits: Tensor, predict: Callable[[Tensor], Tensor]) -> None:
        """Add a batch to the confusion matrix of every tau."""
        self.counts = self.counts.to(logits.device)
        for counts, calibration in zip(self.counts, self.calibrations, strict=True):
            metric = self.metric()
            metric.update(sample, calibration(logits), predict)
            counts += metric.counts

    def compute(self) -> dict[str, float]:
        """Return the mAcc of every tau, in percent; `scores` returns all scores."""
        return {f"mAcc/{tau:g}": scores["mAcc"] for tau, scores in self.scores().items()}

    def scores(self) -> dict[float, dict[str, float]]:
        """Return tau -> the metric's scores, in percent, and bias/CLASS of every class, as a fraction."""
        result = {}
        for calibration, counts in zip(self.calibrations, self.counts.cpu(), strict=True):
            metric = self.metric()
            metric.counts = counts
            result[calibration.tau] = {**measured_bias.scores(counts, self.classes), **metric.compute()}
        return result


Columns = Mapping[str, Mapping[str, float]]


def report(scores: Mapping[float, Mapping[str, float]], tau: float, classes: Sequence[str], biases: Columns) -> str:
    """Format the scores of all taus, the class scores before and after, and the bias of every class.

    scores: see `TauSweep.scores`; empty without labels.
    tau: the chosen tau.
    classes: names of the classes that are scored.
    biases: column title -> class name -> estimated bias.
    """
    if not scores:
        return _biases(biases)
    before, after = scores[0.0], scores[tau]
    names = next(iter(biases.values()))
    measured = {
        title: {name: result[measured_bias.KEY + name] for name in names}
        for title, result in (("measured", before), ("after", after))
    }
    by_class = score_table.of_classes({"before": before, f"tau {tau:g}": after}, classes)
    return "\n\n".join((_taus(scores, tau), by_class, _biases({**biases, **measured})))


def _taus(scores: Mapping[float, Mapping[str, float]], chosen: float) -> str:
    """Format one line for each tau; the chosen one is marked."""
    keys = [key for key in ("mIoU", "mAcc") if key in scores[chosen]]
    lines = ["   tau" + "".join(f"  {key:>6}" for key in keys)]
    for tau, result in scores.items():
        mark = "  <- written" if tau == chosen else ""
        lines.append(f"{tau:6.3g}" + "".join(f"  {result[key]:6.2f}" for key in keys) + mark)
    return "\n".join(lines)


def _biases(columns: Columns) -> str:
    """Format one line for each class and one column for each bias."""
    names = list(next(iter(columns.values())))
    left = max(map(len, (*names, "bias")))
    lines = [f"{'bias':<{left}}" + "".join(f"  {title:>10}" for title in columns)]
    for name in names:
        values = (column[name] for column in columns.values())
        cells = ("-" if math.isnan(value) else f"{value:+.4f}" for value in values)
        lines.append(f"{name:<{left}}" + "".join(f"  {cell:>10}" for cell in cells))
    return "\n".join(lines)
