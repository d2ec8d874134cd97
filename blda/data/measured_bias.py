"""Bias of the classes, measured on a labelled data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

KEY = "bias/"
"""Beginning of the name that a class's measured bias has among the scores: KEY + the class."""


def measured(confusion: Tensor) -> Tensor:
    """Compute Bias(l) = 1/C sum_c P(argmax = l | y = c) - 1/C of a labelled data set (METHOD 1, paper 3.3.2).

    confusion: (C, C) counts, rows = truth, columns = prediction. Returns (C,) float64.
    The mean is over the classes that occur in the truth, as `LogitStatistics.bias` averages over the rows it knows.
    Classes that do not occur are nan.
    """
    counts = confusion.double()
    pixels = counts.sum(1)
    occurs = pixels > 0
    shares = counts / pixels.clamp_min(1)[:, None]
    return torch.where(occurs, shares.sum(0) / occurs.sum() - 1 / len(counts), torch.nan)


def scores(confusion: Tensor, classes: Sequence[str]) -> dict[str, float]:
    """Return the bias of every class as a fraction, under the key bias/CLASS; see `measured`."""
    return {KEY + name: value for name, value in zip(classes, measured(confusion).tolist(), strict=True)}


def of_scores(found: Mapping[str, float | None], classes: Sequence[str]) -> Tensor:
    """Return the entries bias/CLASS of `scores` as a vector (C,) float64; nan where a class has no entry."""
    values = (found.get(KEY + name) for name in classes)
    return torch.tensor([torch.nan if value is None else value for value in values], dtype=torch.float64)
