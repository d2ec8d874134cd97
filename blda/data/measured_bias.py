"""Bias of the classes, measured on a labelled data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

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
