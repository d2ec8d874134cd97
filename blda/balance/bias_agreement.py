"""Agreement of the bias estimated without labels with the measured bias, as rank correlations over the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from blda.balance.logit_statistics import LogitStatistics
from blda.data.measured_bias import of_scores


def spearman(first: Tensor, second: Tensor) -> float:
    """Compute the rank correlation of two vectors (N,); ties get their mean rank.

    nan if all values of a vector are equal.
    """
    ranks = torch.stack((_ranks(first), _ranks(second)))
    ranks = ranks - ranks.mean(1, keepdim=True)
    spread = ranks.square().sum(1).prod().sqrt()
    return float(ranks.prod(0).sum() / spread) if spread > 0 else float("nan")


def rank_correlation(estimate: Tensor, truth: Tensor, known: Tensor) -> float:
    """Compute Spearman's correlation of estimated and measured bias.

    estimate: bias estimated without labels, (C,).
    truth: measured bias, (C,), nan where unknown.
    known: (C,) bool, the classes to compare. Classes with a measured bias of nan are left out too.
    Returns nan for fewer than three classes.
    """
    known = known & ~truth.isnan()
    return spearman(estimate[known], truth[known]) if known.sum() > 2 else float("nan")


def agreement(statistics: LogitStatistics, scores: Mapping[str, float], classes: Sequence[str]) -> dict[str, float]:
    """Compute the rank correlation of the target's estimated bias with the measured bias.

    statistics: statistics of the target.
    scores: scores of an evaluation, which hold the measured bias.
    classes: the C class names.

    Returns two numbers, nan while no row is estimated. `bias_rank_correlation` is over the classes whose row was
    estimated. `bias_rank_correlation/all` is over all classes that occur in the labels: a class without pseudo-labels
    has an estimate too, from its logit on the pixels of other classes.
    """
    estimate, truth = statistics.bias().cpu(), of_scores(scores, classes)
    rows = statistics.estimated[: statistics.num_classes].cpu()
    return {
        "bias_rank_correlation": rank_correlation(estimate, truth, rows),
        "bias_rank_correlation/all": rank_correlation(estimate, truth, rows.any().expand_as(rows)),
    }


def _ranks(values: Tensor) -> Tensor:
    """Rank values (N,) from 0: the number of smaller values plus half the number of other equal ones."""
    less, equal = values[None] < values[:, None], values[None] == values[:, None]
    return less.sum(1) + (equal.sum(1) - 1).double() / 2
