"""The axis of logits on which evidence is counted and corrections are tabulated."""

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
"""Evidence is counted in whole parts of a pixel, this many each: such sums are exact, in any order, on any device."""

ONE = 0x3F800000
"""The bits of 1.0 as a float32; above it, the bits of 1 + |z| grow as its logarithm, piecewise linearly."""

SCALE = PER_OCTAVE / 2**23


def nodes(device: torch.device | None = None) -> Tensor:
    """Logit of every bin (BINS,): 1/64 apart for |z| < 1, and twice as far apart with every doubling of 1 + |z|.

    Networks differ in the scale of their logits; this axis resolves all of them without knowing their range.
    """
    place = torch.arange(-MIDDLE, MIDDLE + 1, device=device)
    octave, step = place.abs() // PER_OCTAVE, place.abs() % PER_OCTAVE
    size = torch.ldexp(1 + step / PER_OCTAVE, octave) - 1
    return torch.where(place < 0, -size, size)


def position(logits: Tensor) -> Tensor:
    """Where logits lie on the axis: float32 in [0, BINS - 1], of the same shape; NaN lies at a logit of 0.

    Linear in the logit between two nodes, so that interpolating in the position is interpolating in the logit.
    """
    logits = logits.float().nan_to_num(0.0)
    bits = (logits.abs().clamp_max_(LIMIT) + 1).view(torch.int32)
    return (bits - ONE).float().mul_(SCALE).copysign_(logits).add_(MIDDLE)


def in_units(weight: Tensor | None, labels: Tensor) -> Tensor:
    """Weights in parts of 1 / UNITS, int64, of the labels' shape; a weight of None is 1."""
    weight = torch.ones_like(labels, dtype=torch.float32) if weight is None else weight
    return (weight * UNITS).round().long()
