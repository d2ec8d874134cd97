"""Fitting and aligning mixtures on the CPU: compiled by numba, cell by cell, as `blda/gmm.py` does for all at once.

A GPU does all cells at once; a CPU does better to leave out the nodes at which nothing happens.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit
from torch import Tensor

from blda.gmm import BACKGROUND, MIN_VARIANCE, Mixture
from blda.kernels.threads import over_threads

CELLS = 8
"""Cells that a thread takes at a time."""

REACH, STEPS = 7, 256
NORMAL = torch.special.ndtr(torch.linspace(-REACH, REACH, 2 * REACH * STEPS + 1, dtype=torch.float64)).numpy()
"""The standard normal's distribution function, within 5e-7 everywhere when interpolated."""

_compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})


def fit(mixture: Mixture, values: Tensor, counts: Tensor, iterations: int) -> Mixture:
    """`gmm.em_step` so many times: mixture (..., K), values (N,), counts (..., N) -> new (..., K)."""
    fitted = Mixture(*(field.clone() for field in mixture))
    cells, components = mixture.means[..., 0].numel(), mixture.means.shape[-1]
    arrays = [field.view(cells, components).numpy() for field in fitted]
    observed = counts.reshape(cells, len(values)).numpy(), values.numpy()
    over_threads(lambda part: _fit(*arrays, *observed, iterations, part.start, part.stop), cells, CELLS)
    return fitted


def align(mixture: Mixture, nodes: Tensor, clip: float, heights: Tensor, levels: Tensor) -> Tensor:
    """F_a^-1(clip(F(z))) of mixtures (M, K) at the nodes (N,), ascending -> (M, N).

    heights, levels: (T,) ascending, the anchor's distribution function and where it is reached.
    """
    table = torch.empty(len(mixture.means), len(nodes))
    arrays = [field.contiguous().numpy() for field in (*mixture, nodes, heights, levels, table)]
    over_threads(lambda part: _align(*arrays, clip, part.start, part.stop), len(table), CELLS)
    return table


@_compiled
def _fit(weights, means, variances, counts, values, iterations, first, last):
    components = weights.shape[1]
    joint, mass, moment, square, peak, steep = np.empty((6, components))
    for cell in range(first, last):
        for _ in range(iterations):
            for k in range(components):
                mass[k], moment[k], square[k], steep[k] = 0, 0, 0, -0.5 / variances[cell, k]
                peak[k] = weights[cell, k] / math.sqrt(2 * math.pi * variances[cell, k])
            for i in range(len(values)):
                if counts[cell, i] > 0:
                    total = 0.0
                    for k in range(components):
                        distance = values[i] - means[cell, k]
                        joint[k] = peak[k] * math.exp(steep[k] * distance * distance) + BACKGROUND
                        total += joint[k]
                    for k in range(components):
                        share = counts[cell, i] * joint[k] / total
                        mass[k] += share
                        moment[k] += share * values[i]
                        square[k] += share * values[i] * values[i]
            total = mass.sum()
            if total > 0:
                for k in range(components):
                    mean = moment[k] / mass[k]
                    weights[cell, k] = mass[k] / total
                    means[cell, k] = mean
                    variances[cell, k] = max(square[k] / mass[k] - mean * mean, MIN_VARIANCE)


@_compiled
def _height(weights, means, variances, value):
    height = 0.0
    for k in range(len(weights)):
        place = min(max((value - means[k]) / math.sqrt(variances[k]), -REACH), REACH) * STEPS + REACH * STEPS
        left = min(int(place), len(NORMAL) - 2)
        height += weights[k] * (NORMAL[left] + (place - left) * (NORMAL[left + 1] - NORMAL[left]))
    return height


@_compiled
def _below(weights, means, variances, nodes, level):
    """How many nodes lie where F is below a level."""
    low, high = 0, len(nodes)
    while low < high:
        middle = (low + high) // 2
        if _height(weights, means, variances, nodes[middle]) < level:
            low = middle + 1
        else:
            high = middle
    return low


@_compiled
def _align(weights, means, variances, nodes, heights, levels, table, clip, first, last):
    for cell in range(first, last):
        own = weights[cell], means[cell], variances[cell]
        # F is clipped outside of these nodes.
        low, high = _below(*own, nodes, clip), _below(*own, nodes, 1 - clip)
        right = 1
        for i in range(len(nodes)):
            if i < low or low <= i < high or i == high:
                height = clip if i < low else 1 - clip if i >= high else _height(*own, nodes[i])
                while right < len(heights) - 1 and heights[right] < height:
                    right += 1
                below, above = heights[right - 1], heights[right]
                share = min(max((height - below) / max(above - below, 1e-12), 0.0), 1.0)
                table[cell, i] = levels[right - 1] + share * (levels[right] - levels[right - 1])
            else:
                table[cell, i] = table[cell, i - 1]
