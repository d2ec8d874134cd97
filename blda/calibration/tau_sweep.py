"""What calibrations of several strengths make of the same logits."""

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
    """A metric: the confusion of every tau, from one pass of the network.

    calibration: of any tau. taus: those to measure. metric: makes a fresh one whose counts are the confusion (C, C).
    counts: (T, C, C) float64, additive over images and processes; rows are the truth.
    """

    def __init__(self, calibration: Calibration, taus: Sequence[float], metric: Callable[[], Metric]) -> None:
        self.calibrations = [replace(calibration, tau=tau) for tau in taus]
        self.classes, self.metric = calibration.classes, metric
        self.counts = torch.zeros(len(taus), len(self.classes), len(self.classes), dtype=torch.float64)

    def update(self, sample: Sample, logits: Tensor, predict: Callable[[Tensor], Tensor]) -> None:
        """Add a batch, as the metric does."""
        self.counts = self.counts.to(logits.device)
        for counts, calibration in zip(self.counts, self.calibrations, strict=True):
            metric = self.metric()
            metric.update(sample, calibration(logits), predict)
            counts += metric.counts

    def compute(self) -> dict[str, float]:
        """mAcc of every tau; all numbers are in `scores`."""
        return {f"mAcc/{tau:g}": scores["mAcc"] for tau, scores in self.scores().items()}

    def scores(self) -> dict[float, dict[str, float]]:
        """tau -> what the metric computes, and bias/CLASS of every class of the network as a fraction."""
        result = {}
        for calibration, counts in zip(self.calibrations, self.counts.cpu(), strict=True):
            metric = self.metric()
            metric.counts = counts
            result[calibration.tau] = {**measured_bias.scores(counts, self.classes), **metric.compute()}
        return result


Columns = Mapping[str, Mapping[str, float]]


def report(scores: Mapping[float, Mapping[str, float]], tau: float, classes: Sequence[str], biases: Columns) -> str:
    """Scores of all taus, classes before and after, and bias by class, for the terminal.

    scores: of `TauSweep`, empty without labels. tau: the chosen one. classes: those that are scored. biases: column ->
    class -> estimate.
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
    keys = [key for key in ("mIoU", "mAcc") if key in scores[chosen]]
    lines = ["   tau" + "".join(f"  {key:>6}" for key in keys)]
    for tau, result in scores.items():
        mark = "  <- written" if tau == chosen else ""
        lines.append(f"{tau:6.3g}" + "".join(f"  {result[key]:6.2f}" for key in keys) + mark)
    return "\n".join(lines)


def _biases(columns: Columns) -> str:
    """One line a class; source, target and calibrated are estimates without labels."""
    names = list(next(iter(columns.values())))
    left = max(map(len, (*names, "bias")))
    lines = [f"{'bias':<{left}}" + "".join(f"  {title:>10}" for title in columns)]
    for name in names:
        values = (column[name] for column in columns.values())
        cells = ("-" if math.isnan(value) else f"{value:+.4f}" for value in values)
        lines.append(f"{name:<{left}}" + "".join(f"  {cell:>10}" for cell in cells))
    return "\n".join(lines)
