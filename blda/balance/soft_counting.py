"""Labels sampled evenly from probabilities, to count a pixel for every class that it may be."""

from __future__ import annotations

import torch
from torch import Tensor

STRIDES = tuple(1.2207440846057596**-power for power in (1, 2, 3))
"""Steps of a sequence that fills a cube evenly: powers of 1 / g, where g^4 = g + 1 (M. Roberts' R_3, 2018)."""


def sampled_labels(probabilities: Tensor, number: Tensor | float) -> Tensor:
    """Labels drawn from a belief: (B, C, H, W) -> (B, H, W) int64, class c for a share belief[:, c] of the pixels.

    Drawn by a sequence that fills rows, columns and numbers evenly: no generator, less noise than by chance where
    beliefs are smooth, and each image's labels are a function of its belief and of `number` alone.
    """
    rows, columns = (
        torch.arange(size, device=probabilities.device, dtype=torch.float64) for size in probabilities.shape[-2:]
    )
    level = (rows[:, None] * STRIDES[0] + columns * STRIDES[1] + number * STRIDES[2]) % 1
    reached = probabilities.cumsum(1) <= level.to(probabilities.dtype)
    return reached.sum(1).clamp(max=probabilities.shape[1] - 1)
