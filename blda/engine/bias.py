"""Measured bias of the classes, and how well an estimate without labels ranks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from blda.statistics import LogitStatistics

KEY = "bias/"
"""What the measured bias of a class is called among the scores: KEY + its name."""


def measured(confusion: Tensor) -> Tensor:
    """Bias(l) = 1/C sum_c P(argmax = l | y = c) - 1/C of a labelled data set (METHOD 1, paper 3.3.2).

    confusion: (C, C) counts, rows = truth, columns = prediction. The mean is over the classes that occur in the truth,
    as `LogitStatistics.bias` means over the rows it knows; those that do not are nan. Returns (C,) float64.
    """
    counts = confusion.double()
    pixels = counts.sum(1)
    occurs = pixels > 0
    shares = counts / pixels.clamp_min(1)[:, None]
    return torch.where(occurs, shares.sum(0) / occurs.sum() - 1 / len(counts), torch.nan)


def scores(confusion: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """bias/CLASS of every class, as fractions; see `measured`."""
    return {KEY + name: value for name, value in zip(classes, measured(confusion).tolist(), strict=True)}


def of_scores(found: Mapping[str, float | None], classes: Sequence[str]) -> Tensor:
    """What `scores` named, as a vector (C,) float64 again; nan where a class has none."""
    values = (found.get(KEY + name) for name in classes)
    return torch.tensor([torch.nan if value is None else value for value in values], dtype=torch.float64)


def spearman(first: Tensor, second: Tensor) -> float:
    """Rank correlation of two vectors (N,), ties sharing their mean rank; nan where one of them has but one value."""
    ranks = torch.stack((_ranks(first), _ranks(second)))
    ranks = ranks - ranks.mean(1, keepdim=True)
    spread = ranks.square().sum(1).prod().sqrt()
    return float(ranks.prod(0).sum() / spread) if spread > 0 else float("nan")


def rank_correlation(estimate: Tensor, truth: Tensor, known: Tensor) -> float:
    """Spearman's, of the bias estimated without labels with the measured one, (C,) each.

    Over the classes that are known, (C,) bool, and not nan in the truth; nan below three of them.
    """
    known = known & ~truth.isnan()
    return spearman(estimate[known], truth[known]) if known.sum() > 2 else float("nan")


def agreement(states: Mapping[str, object], found: Mapping[str, float], classes: Sequence[str]) -> dict[str, float]:
    """Rank correlation of the target's estimated with the measured bias; nothing for a method without statistics.

    states: what the method saves, by name. found: scores that hold the measured bias. Returns bias_rank_correlation,
    over the classes whose row was estimated, and bias_rank_correlation/all, over all that occur in the truth: one
    without pseudo-labels is estimated too, by its logit over the pixels of the others. nan while no row is estimated.
    """
    statistics = states.get("target_statistics")
    if not isinstance(statistics, LogitStatistics):
        return {}
    estimate, truth = statistics.bias().cpu(), of_scores(found, classes)
    rows = statistics.estimated[: statistics.classes].cpu()
    return {
        "bias_rank_correlation": rank_correlation(estimate, truth, rows),
        "bias_rank_correlation/all": rank_correlation(estimate, truth, rows.any().expand_as(rows)),
    }


def _ranks(values: Tensor) -> Tensor:
    """Number of smaller values plus half the number of other equal ones."""
    less, equal = values[None] < values[:, None], values[None] == values[:, None]
    return less.sum(1) + (equal.sum(1) - 1).double() / 2
