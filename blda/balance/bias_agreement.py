"""How well the bias that statistics estimate without labels ranks the classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from blda.balance.logit_statistics import LogitStatistics
from blda.data.measured_bias import of_scores


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


def agreement(statistics: LogitStatistics, found: Mapping[str, float], classes: Sequence[str]) -> dict[str, float]:
    """Rank correlation of the target's estimated with the measured bias.

    statistics: of the target. found: scores that hold the measured bias. Returns bias_rank_correlation, over the
    classes whose row was estimated, and bias_rank_correlation/all, over all that occur in the truth: one without
    pseudo-labels is estimated too, by its logit over the pixels of the others. nan while no row is estimated.
    """
    estimate, truth = statistics.bias().cpu(), of_scores(found, classes)
    rows = statistics.estimated[: statistics.num_classes].cpu()
    return {
        "bias_rank_correlation": rank_correlation(estimate, truth, rows),
        "bias_rank_correlation/all": rank_correlation(estimate, truth, rows.any().expand_as(rows)),
    }


def _ranks(values: Tensor) -> Tensor:
    """Number of smaller values plus half the number of other equal ones."""
    less, equal = values[None] < values[:, None], values[None] == values[:, None]
    return less.sum(1) + (equal.sum(1) - 1).double() / 2
