"""The axis of logits on which evidence is counted and corrections are tabulated."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BINS = 1024
LIMIT = 300.0
"""Logits beyond +-LIMIT fall into the outermost bins; distribution functions are flat there."""

_SPAN = math.asinh(LIMIT)
_SCALE = (BINS - 1) / (2 * _SPAN)


def nodes(device: torch.device | None = None) -> Tensor:
    """Logit of every bin (BINS,): uniform in asinh(z), so 0.0125 apart at z = 0 and 0.126 apart at z = 10.

    Networks differ in the scale of their logits; this axis resolves all of them without knowing their range.
    """
    return torch.linspace(-_SPAN, _SPAN, BINS, dtype=torch.float64, device=device).sinh().float()


def position(logits: Tensor) -> Tensor:
    """Where logits lie on the axis: float32 in [0, BINS - 1], of the same shape; NaN lies at a logit of 0."""
    logits = logits.float().nan_to_num(0.0).clamp_(-LIMIT, LIMIT)
    # asinh, written out: torch.asinh is ten times slower on a CPU.
    size, square = logits.abs(), logits.square()
    axis = (size + square / (1 + (1 + square).sqrt_())).log1p_().copysign_(logits)
    return axis.add_(_SPAN).mul_(_SCALE).clamp_(0, BINS - 1)
