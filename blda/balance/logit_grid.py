"""Logit grid: the axis on which logits are counted and corrections are tabulated."""

from __future__ import annotations

import torch
from torch import Tensor

PER_OCTAVE = 64
"""Bins in every octave of 1 + |z|."""

MIDDLE = 8 * PER_OCTAVE
"""Bin of a logit of 0."""

BINS = 2 * MIDDLE + 1

LIMIT = 255.0
"""Logits beyond +-LIMIT fall into the outermost bins; distribution functions are flat there."""

UNITS = 2**16
"""Units a pixel: counts are whole numbers of units, so their sums are exact, in any order and on any device."""

ONE = 0x3F800000
"""Bits of 1.0 as a float32; for larger numbers, the bits of 1 + |z| approximate its logarithm, piecewise linearly."""

SCALE = PER_OCTAVE / 2**23


def nodes(device: torch.device | None = None) -> Tensor:
    """Return the logit of every bin, (BINS,).

    Nodes are 1/64 apart for |z| < 1, and twice as far apart with every doubling of 1 + |z|. So the grid resolves logits
    of any scale without knowing their range.
    """
    place = torch.arange(-MIDDLE, MIDDLE + 1, device=device)
    octave, step = place.abs() // PER_OCTAVE, place.abs() % PER_OCTAVE
    size = torch.ldexp(1 + step / PER_OCTAVE, octave) - 1
    return torch.where(place < 0, -size, size)


def position(logits: Tensor) -> Tensor:
    """Compute the position of logits on the grid: float32 in [0, BINS - 1], same shape; NaN counts as a logit of 0.

    The position is linear in the logit between two nodes, so interpolation by position is interpolation by logit.
    """
    logits = logits.float().nan_to_num(0.0)
    bits = (logits.abs().clamp_max_(LIMIT) + 1).view(torch.int32)
    return (bits - ONE).float().mul_(SCALE).copysign_(logits).add_(MIDDLE)


def in_units(weight: Tensor | None, labels: Tensor) -> Tensor:
    """Convert weights to units of 1 / UNITS, int64, of the labels' shape; a weight of None is 1."""
    weight = torch.ones_like(labels, dtype=torch.float32) if weight is None else weight
    return (weight * UNITS).round().long()
