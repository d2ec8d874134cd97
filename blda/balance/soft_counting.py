"""Soft counting: labels sampled from probabilities, so that a pixel may be counted for any likely class."""

from __future__ import annotations

import torch
from torch import Tensor

STRIDES = tuple(1.2207440846057596**-power for power in (1, 2, 3))
"""Increments of a low-discrepancy sequence in three dimensions: powers of 1 / g, g^4 = g + 1 (Roberts' R_3, 2018)."""


def sampled_labels(probabilities: Tensor, number: Tensor | float) -> Tensor:
    """Sample labels from probabilities (B, C, H, W): (B, H, W) int64, class c with probability probabilities[:, c].

    number: number of the sample, such as the training step.

    Samples come from a low-discrepancy sequence over rows, columns and numbers instead of a random generator. They have
    less noise than random ones where probabilities are smooth, and depend on the image's probabilities and `number`
    alone.
    """
    rows, columns = (
        torch.arange(size, device=probabilities.device, dtype=torch.float64) for size in probabilities.shape[-2:]
    )
    level = (rows[:, None] * STRIDES[0] + columns * STRIDES[1] + number * STRIDES[2]) % 1
    reached = probabilities.cumsum(1) <= level.to(probabilities.dtype)
    return reached.sum(1).clamp(max=probabilities.shape[1] - 1)
