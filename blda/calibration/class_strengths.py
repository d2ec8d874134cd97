"""Strength of the correction by class: rare classes are corrected more, frequent ones less."""

from __future__ import annotations

import torch
from torch import Tensor

from blda.balance import logit_grid
from blda.balance.alignment import Alignment

MOST = 2.0
"""Largest factor of tau; the smallest is 1 / MOST."""


def class_strengths(pixels: Tensor, rarity: float) -> Tensor:
    """Compute the factor of tau of every class, (C,) float32: (share / geometric mean of the shares) ** -rarity.

    pixels: pixels that the network gives to each class, (C,). Classes without any have the factor 1, and do not count
        in the mean.
    rarity: power, at least 0; with 0 all factors are 1. Factors are limited to 1 / MOST .. MOST.
    """
    seen = pixels > 0
    logarithm = torch.where(seen, pixels.double().clamp_min(1e-300).log(), 0.0)
    above = torch.where(seen, logarithm - logarithm.sum() / seen.sum().clamp_min(1), 0.0)
    return (-rarity * above).exp().clamp(1 / MOST, MOST).float()


def strengthened(alignment: Alignment, strengths: Tensor) -> Alignment:
    """Scale the correction of every row: an aligned logit z' becomes z + strength (z' - z).

    alignment: lookup table (C, C, BINS). strengths: (C,).
    """
    nodes = logit_grid.nodes(alignment.lookup.device)
    rows = alignment.active[:, None, None]
    moved = nodes + strengths.to(nodes.device)[:, None, None] * (alignment.lookup - nodes)
    return Alignment(torch.where(rows, moved, alignment.lookup), alignment.active)
