"""Fitting and aligning mixtures on the CPU, cell by cell, compiled by numba.

The results are those of `blda/balance/gaussian_mixture.py`, which computes all cells at once in float32. Cell by cell,
the nodes without counts, and those where F is clipped, are left out.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from torch import Tensor

from blda.balance import logit_grid
from blda.balance.gaussian_mixture import BACKGROUND, MIN_VARIANCE, Mixture
from blda.balance.kernels.compiling import compiled, inlined
from blda.balance.kernels.elementary import exp, normal_cdf
from blda.balance.kernels.threads import over_threads

CELLS = 16
"""Number of cells that a thread takes at a time."""

BLOCK = 32
"""Loops over nodes run in whole blocks, because the scalar remainder of a vector loop costs more than padding."""

PADDED = math.ceil(logit_grid.BINS / BLOCK) * BLOCK
NODES = np.pad(logit_grid.nodes().numpy(), (0, PADDED - logit_grid.BINS), mode="edge")

POINTS, STEPS = 8192, 8192
"""Points at which an anchor's distribution function is tabulated, and steps of probability between the clips.

A step is far smaller than the average change of F from one node to the next.
"""

_LOOSE = {"contract", "reassoc", "nsz", "arcp"}
_compiled, _inlined = compiled(fastmath=_LOOSE), inlined(fastmath=_LOOSE)


def fit(mixture: Mixture, counts: Tensor, iterations: int, rows: Tensor | None = None) -> Mixture:
    """Run `em_step` of `gaussian_mixture` for a number of iterations, and return the new mixtures (R, ..., K).

    mixture: mixtures to start from, (R, ..., K).
    counts: histograms at the nodes, (R, ..., BINS) float64.
    rows: rows to fit, (R,) bool; the others stay as they are. None fits all.
    """
    fitted = Mixture(*(field.clone() for field in mixture))
    arrays = [field.view(-1, field.shape[-1]).numpy() for field in fitted]
    cells = _cells(mixture, rows)
    histograms = counts.reshape(-1, logit_grid.BINS).numpy()
    over_threads(lambda part: _fit(*arrays, histograms, cells[part.start : part.stop], iterations), len(cells), CELLS)
    return fitted


def align(mixture: Mixture, anchors: Mixture, clip: float, table: Tensor, rows: Tensor) -> None:
    """Write F_a^-1(clip(F(z))) at all nodes into rows of a lookup table.

    mixture: class mixtures, (C, C, K).
    anchors: anchor mixtures, (2, K); the first one is for the diagonal.
    clip: F is clipped to [clip, 1 - clip].
    table: the lookup table, (C, C, BINS).
    rows: rows to write, (C,) bool; the others stay as they are.
    """
    cells = _cells(mixture, rows)
    arrays = [field.reshape(-1, field.shape[-1]).numpy() for field in mixture]
    limits = np.float32(clip), np.float32(1 - clip), np.float32(NormalDist().inv_cdf(1 - clip))
    arguments = (*arrays, _quantiles(anchors, clip), *limits, table.view(-1, logit_grid.BINS).numpy(), len(table))
    over_threads(lambda part: _align(*arguments, cells[part.start : part.stop]), len(cells), CELLS)


def _cells(mixture: Mixture, rows: Tensor | None) -> np.ndarray:
    """Return the flat indices of the cells in the rows."""
    cells = np.arange(mixture.means[..., 0].numel()).reshape(len(mixture.means), -1)
    return (cells if rows is None else cells[rows.numpy()]).ravel()


def _quantiles(anchors: Mixture, clip: float) -> np.ndarray:
    """Tabulate F^-1 of the anchors at equal steps of probability from clip to 1 - clip: (2, STEPS + 1)."""
    probability = np.linspace(clip, 1 - clip, STEPS + 1)
    result = []
    for weights, means, variances in zip(*(field.numpy() for field in anchors), strict=True):
        reach = 8 * np.sqrt(variances)
        levels = np.linspace((means - reach).min(), (means + reach).max(), POINTS, dtype=np.float32)
        anchor_cdf = np.zeros(POINTS, np.float32)
        _tabulate(weights, means, variances, levels, anchor_cdf)
        # Rounding errors may make F decrease by a last digit.
        result.append(np.interp(probability, np.maximum.accumulate(anchor_cdf), levels))
    return np.array(result, np.float32)


@_compiled
def _fit(weights, means, variances, counts, cells, iterations):
    values, shares, total = np.empty(PADDED, np.float32), np.empty(PADDED, np.float32), np.empty(PADDED, np.float32)
    joint = np.empty((weights.shape[1], PADDED), np.float32)
    for cell in cells:
        size = _occupied(counts[cell], values, shares)
        if size > 0:
            for _ in range(iterations):
                _em_step(weights[cell], means[cell], variances[cell], values[:size], shares[:size], joint, total[:size])


@_inlined
def _occupied(counts, values, shares):
    """Write the nodes with counts, and their shares of the sum, to the front of the arrays; return their number.

    The number is rounded up to whole blocks; padding has a share of 0.
    """
    size, total = 0, 0.0
    for i in range(len(counts)):
        total += counts[i]
    if not total > 0:
        return 0
    for i in range(len(counts)):
        # Without a branch: the next node overwrites one without counts.
        values[size], shares[size] = NODES[i], np.float32(counts[i] / total)
        size += np.int64(counts[i] > 0)
    padded = (size + BLOCK - 1) // BLOCK * BLOCK
    shares[size:padded], values[size:padded] = 0, 0
    return padded


@_inlined
def _em_step(weights, means, variances, values, shares, joint, total):
    """Run one EM iteration in place.

    Moments are about each component's old mean, so that float32 keeps the digits of the variance.
    """
    background = np.float32(BACKGROUND)
    total[:] = 0
    for k in range(len(weights)):
        mean, steep = means[k], np.float32(-0.5 / variances[k])
        peak = np.float32(weights[k] / math.sqrt(2 * math.pi * variances[k]))
        for i in range(len(values)):
            distance = values[i] - mean
            joint[k, i] = peak * exp(steep * distance * distance) + background
            total[i] += joint[k, i]
    for i in range(len(values)):
        total[i] = shares[i] / total[i]
    whole = 0.0
    for k in range(len(weights)):
        mean, mass, moment, square = means[k], np.float32(0), np.float32(0), np.float32(0)
        for i in range(len(values)):
            distance, share = values[i] - mean, joint[k, i] * total[i]
            mass += share
            moment += share * distance
            square += share * distance * distance
        shift = np.float64(moment) / np.float64(mass)
        weights[k], means[k] = mass, np.float32(mean + shift)
        variances[k] = max(np.float64(square) / np.float64(mass) - shift * shift, MIN_VARIANCE)
        whole += mass
    for k in range(len(weights)):
        weights[k] /= whole


@_compiled
def _tabulate(weights, means, variances, values, anchor_cdf):
    """Add F of an anchor at the values to `anchor_cdf`."""
    _distribution(weights, means, variances, values, anchor_cdf)


@_inlined
def _distribution(weights, means, variances, values, anchor_cdf):
    """Add F at the values to `anchor_cdf`."""
    for k in range(len(weights)):
        weight, mean, steep = weights[k], means[k], np.float32(1 / math.sqrt(variances[k]))
        for i in range(len(values)):
            anchor_cdf[i] += weight * normal_cdf((values[i] - mean) * steep)


@_compiled
def _align(weights, means, variances, quantiles, lowest, highest, reach, table, num_classes, cells):
    anchor_cdf, per_step = np.empty(PADDED, np.float32), np.float32(STEPS) / (highest - lowest)
    for cell in cells:
        first, last = _between(means[cell], variances[cell], reach)
        cdf_value = anchor_cdf[first:last]
        cdf_value[:] = 0
        _distribution(weights[cell], means[cell], variances[cell], NODES[first:last], cdf_value)
        row, anchor = table[cell], quantiles[0 if cell // num_classes == cell % num_classes else 1]
        row[:first], row[last:] = anchor[0], anchor[STEPS]
        for i in range(min(last, len(row)) - first):
            place = (min(max(cdf_value[i], lowest), highest) - lowest) * per_step
            left = min(np.int32(place), np.int32(STEPS - 1))
            row[first + i] = anchor[left] + (place - np.float32(left)) * (anchor[left + 1] - anchor[left])


@_inlined
def _between(means, variances, reach):
    """Return the bounds, in whole blocks, of the nodes between which F may lie within the clips."""
    low, high = np.inf, -np.inf
    for k in range(len(means)):
        low = min(low, means[k] - reach * math.sqrt(variances[k]))
        high = max(high, means[k] + reach * math.sqrt(variances[k]))
    first = np.searchsorted(NODES, low) // BLOCK * BLOCK
    last = (np.searchsorted(NODES, high) + BLOCK - 1) // BLOCK * BLOCK
    return first, max(first, last)
