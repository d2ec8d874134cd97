"""Counting and balanced cross-entropy on the CPU, compiled by numba, with one pass over the logits each.

For counting, a thread takes whole channels, so no two threads add to the same histogram. For the loss, it takes tiles
of pixels, whose logits fit into the cache. The losses of tiles are added in the order of the tiles, so results do not
depend on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from blda.balance.kernels.compiling import compiled, inlined
from blda.balance.kernels.elementary import exp
from blda.balance.kernels.threads import over_threads
from blda.balance.logit_grid import BINS, LIMIT, MIDDLE, ONE, SCALE, UNITS, in_units

TILE = 1024
"""Pixels of a tile; with 19 classes its logits take 76 KB."""

TILES = 16
"""Number of tiles that a thread takes at a time."""

_compiled, _inlined = compiled(), inlined()
# Reordering and contraction only, which keep NaN.
_LOOSE = {"contract", "reassoc", "nsz"}
_compiled_loose, _inlined_loose = compiled(fastmath=_LOOSE), inlined(fastmath=_LOOSE)


def count(logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """Count logits by label: histograms (C, C, BINS) float64. The sums are exact.

    logits: (B, C, N) of any float type; a pixel with a NaN is not counted.
    labels: (B, N) int64; a label outside [0, C) is not counted.
    weight: weights of the pixels, (B, N) >= 0, rounded to multiples of 1 / UNITS; None for 1.
    """
    logits = logits.float().contiguous()
    num_classes = logits.shape[1]
    row, units = _rows(labels, num_classes), in_units(weight, labels).contiguous()
    counts = np.zeros((num_classes + 1) * num_classes * BINS)
    if _counted(logits, row, units, counts):
        counts[:] = 0
        _counted(logits, torch.where(logits.isnan().any(1), -1, row), units, counts)
    return torch.from_numpy(counts).view(num_classes + 1, num_classes, BINS)[:num_classes]


def _counted(logits: Tensor, row: Tensor, units: Tensor, counts: np.ndarray) -> bool:
    """Add to flat counts of C + 1 rows; return whether a counted pixel has a logit that is NaN."""
    num_classes = logits.shape[1]
    offset, share = np.empty(row.shape, np.uint32), np.empty(row.shape, np.float32)
    _offsets(row.numpy(), units.numpy(), num_classes, offset, share)
    has_nan = np.zeros(num_classes, np.bool_)
    arrays = logits.numpy(), offset, share, counts, has_nan
    over_threads(lambda part: _count(*arrays, part.start, part.stop), num_classes)
    return bool(has_nan.any())


def _rows(labels: Tensor, num_classes: int, domain: Tensor | int = 0) -> Tensor:
    """Return the pixels' rows in a lookup table of several domains, int64; -1 for labels that are not classes."""
    known = (labels >= 0) & (labels < num_classes)
    return torch.where(known, labels + num_classes * domain, -1).contiguous()


def loss_and_gradient(
    logits: Tensor,
    labels: Tensor,
    domain: Tensor | int,
    weight: Tensor | None,
    divisor: int,
    table: Tensor,
    active: Tensor,
    tau: float,
) -> tuple[Tensor, Tensor]:
    """Compute the sum of weight / divisor * CE(z - tau * Delta, label), float64, and its gradient by the logits.

    No gradient flows through Delta; the gradient is float32, (B, C, N).

    logits: (B, C, N) of any float type.
    labels: (B, N) int64; pixels whose label is not a class contribute nothing.
    domain: domain of each pixel, (B, N) bool or integers, or one for all; row domain x C + label of the lookup table
        corrects a pixel.
    weight: weights of the pixels, (B, N); None for 1.
    divisor: number that the loss is divided by.
    table: lookup table of aligned logits at the nodes, (R, C, BINS) float32.
    active: (R,) bool; rows that are not active have a Delta of 0.
    tau: strength of the correction.
    """
    logits = logits.float().contiguous()
    batch, num_classes, pixels = logits.shape
    row = _rows(labels, num_classes, domain)
    weight = torch.ones_like(labels, dtype=torch.float32) if weight is None else weight.float()
    weight = (weight / divisor).contiguous()
    tiles = batch * math.ceil(pixels / TILE)
    # NumPy asks Linux for huge pages, torch does not: a large batch takes a quarter less time.
    gradient, losses = np.empty(logits.shape, np.float32), np.zeros(tiles)
    arguments = (tensor.numpy() for tensor in (logits, row, weight, table.flatten(), active))
    arrays = (*arguments, np.float32(tau), gradient, losses)
    over_threads(lambda part: _loss(*arrays, part.start, part.stop), tiles, TILES)
    return torch.from_numpy(losses).sum(), torch.from_numpy(gradient)


@_inlined
def _places(logits, places):
    """Write `logit_grid.position` of logits into `places`; NaN gets any position on the grid."""
    for i in range(len(logits)):
        size = abs(logits[i])
        # Written so that NaN counts as beyond the limit: its position must lie within the table.
        size = np.float32((size if size < np.float32(LIMIT) else np.float32(LIMIT)) + np.float32(1))
        distance = np.float32(np.float32(size).view(np.int32) - np.int32(ONE)) * np.float32(SCALE)
        places[i] = np.float32(MIDDLE) + (distance if logits[i] >= 0 else -distance)


@_compiled
def _offsets(row, units, num_classes, offset, share):
    """Write the first flat index of each pixel's row, that of row C for pixels without one, and the pixel's weight."""
    for image in range(len(row)):
        for i in range(row.shape[1]):
            offset[image, i] = (row[image, i] if row[image, i] >= 0 else num_classes) * num_classes * BINS
            share[image, i] = np.float32(units[image, i]) * np.float32(1 / UNITS)


@_compiled
def _count(logits, offset, share, counts, has_nan, first, last):
    """Add to flat counts of C + 1 rows; pixels that are not counted are added to the last row, without a branch."""
    num_classes, pixels = logits.shape[1], logits.shape[2]
    places, spare = np.empty(TILE, np.float32), np.uint32(num_classes * num_classes * BINS)
    cells = np.empty(TILE, np.uint32)
    for channel in range(first, last):
        begin = np.uint32(channel * BINS)
        for image in range(len(logits)):
            for start in range(0, pixels, TILE):
                here = slice(start, min(start + TILE, pixels))
                values, rows, shares = logits[image, channel, here], offset[image, here], share[image, here]
                _places(values, places)
                nan = False
                for i in range(len(values)):
                    nan |= (values[i] != values[i]) & (rows[i] != spare)
                    cells[i] = rows[i] + begin + np.uint32(places[i] + np.float32(0.5))
                for i in range(len(values)):
                    counts[cells[i]] += shares[i]
                has_nan[channel] |= nan


@_compiled_loose
def _loss(logits, row, weight, table, active, tau, gradient, losses, first, last):
    num_classes, pixels = logits.shape[1], logits.shape[2]
    tiles = (pixels + TILE - 1) // TILE
    moved = np.empty((num_classes, TILE), np.float32)
    label, cost, top = np.empty(TILE, np.int32), np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    offset, strength = np.empty(TILE, np.uint32), np.empty(TILE, np.float32)
    for tile in range(first, last):
        image, start = tile // tiles, tile % tiles * TILE
        here = slice(start, min(start + TILE, pixels))
        size = here.stop - start
        rows, weights = row[image, here], weight[image, here]
        for i in range(size):
            counted, own = rows[i] >= 0, np.int32(max(rows[i], 0))
            offset[i] = np.uint32(own) * np.uint32(num_classes * BINS)
            strength[i] = tau if counted and active[own] else 0
            cost[i] = weights[i] if counted else 0
            label[i] = own if counted else -1
        # Remainders by subtraction: there are few domains, and integers are slow to divide.
        for _ in range(len(active) // num_classes - 1):
            for i in range(size):
                label[i] -= np.int32(num_classes) if label[i] >= num_classes else np.int32(0)
        top[:] = -np.inf
        for channel in range(num_classes):
            _correct(logits[image, channel, here], table, channel * BINS, offset, strength, moved[channel], top)
        losses[tile] = _softmax_loss(moved, size, label, cost, top)
        for channel in range(num_classes):
            slope, own = gradient[image, channel, here], moved[channel]
            for i in range(size):
                slope[i] = own[i] * cost[i] if label[i] >= 0 else np.float32(0)
        for i in range(size):
            if label[i] >= 0:
                gradient[image, label[i], start + i] -= weights[i]


@_inlined_loose
def _correct(logits, table, begin, offset, strength, moved, top):
    """Write z - strength * Delta of one channel into `moved`, and update the largest corrected logit `top`.

    begin: first index of the channel's cell within a row of the table.
    """
    places, left = np.empty(TILE, np.float32), np.empty(TILE, np.uint32)
    low, high = np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    _places(logits, places)
    for i in range(len(logits)):
        node = min(np.int32(places[i]), np.int32(BINS - 2))
        places[i] -= np.float32(node)
        left[i] = offset[i] + np.uint32(begin) + np.uint32(node)
    # Gathers are in a loop of their own, so that the loops around it use vector instructions.
    for i in range(len(logits)):
        low[i], high[i] = table[left[i]], table[left[i] + np.uint64(1)]
    for i in range(len(logits)):
        delta = low[i] + places[i] * (high[i] - low[i]) - logits[i]
        moved[i] = logits[i] - strength[i] * delta
        top[i] = max(top[i], moved[i])


@_inlined_loose
def _softmax_loss(logits, size, label, cost, top):
    """Return the sum of cost * cross-entropy over the first `size` pixels of logits (C, TILE).

    top: largest logit of each pixel. In place, the logits become e^(logit - top), and cost is divided by their sum.
    """
    total, own = np.zeros(size, np.float32), np.zeros(size, np.float32)
    for i in range(size):
        own[i] = logits[max(label[i], 0), i] - top[i]
    for channel in range(len(logits)):
        for i in range(size):
            logits[channel, i] = exp(logits[channel, i] - top[i])
            total[i] += logits[channel, i]
    loss = 0.0
    for i in range(size):
        if label[i] >= 0:
            loss += np.float64(cost[i] * (np.log(total[i]) - own[i]))
        cost[i] /= total[i]
    return loss
