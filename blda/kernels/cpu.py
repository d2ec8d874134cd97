"""Counting and balanced cross-entropy on the CPU: compiled by numba, one pass over the logits each.

A tile of pixels stays in the cache while all its classes are read. Threads take whole tiles; what a tile adds up is
added over the tiles in their order, so results do not depend on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numba import njit
from torch import Tensor

from blda.grid import BINS, LIMIT, MIDDLE, ONE, SCALE
from blda.kernels.threads import over_threads

TILE = 1024
"""Pixels: 19 classes of them take 76 KB."""

_compiled = njit(nogil=True, cache=True, error_model="numpy")
# Reordering and contraction only: a NaN must stay one.
_compiled_loose = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


def count(logits: Tensor, row: Tensor, units: Tensor) -> Tensor:
    """Histograms (C, C, BINS) int64 of logits (B, C, N) by row (B, N) int64, -1 for none, in units (B, N)."""
    batch, classes, pixels = logits.shape
    arrays = (logits.float().contiguous().numpy(), row.numpy(), units.numpy())

    def part(tiles: range) -> np.ndarray:
        counts = np.zeros((classes + 1) * classes * BINS, np.int64)
        _count(*arrays, tiles.start, tiles.stop, counts)
        return counts

    # A thread's own histogram pays from about as many logits on as it has cells.
    parts = over_threads(part, batch * math.ceil(pixels / TILE), math.ceil((classes + 1) * BINS / TILE))
    return torch.from_numpy(sum(parts[1:], parts[0])).view(classes + 1, classes, BINS)[:classes]


def loss_and_gradient(
    logits: Tensor, row: Tensor, weight: Tensor, table: Tensor, active: Tensor, tau: float
) -> tuple[Tensor, Tensor]:
    """Sum of weight * CE(z - tau * Delta, row % C), float64, and its gradient by the logits, as if Delta were fixed.

    logits: (B, C, N) of any float type; the gradient is float32. row: (B, N) int64 into the table, -1 for pixels that
    cost nothing. weight: (B, N) float32. table: (R, C, BINS) float32, aligned logits at the nodes. active: (R,) bool,
    False where Delta is 0.
    """
    logits = logits.float().contiguous()
    batch, _, pixels = logits.shape
    tiles = batch * math.ceil(pixels / TILE)
    gradient, losses = torch.empty_like(logits), torch.zeros(tiles, dtype=torch.float64)
    given = (tensor.numpy() for tensor in (logits, row, weight, table.flatten(), active))
    arrays = (*given, np.float32(tau), gradient.numpy(), losses.numpy())
    over_threads(lambda part: _loss(*arrays, part.start, part.stop), tiles)
    return losses.sum(), gradient


@_compiled
def _places(logits, places):
    """`grid.position` of logits; of one that is no number, anything on the axis."""
    for i in range(len(logits)):
        size = abs(logits[i])
        # Written so that a NaN is beyond the limit: it must not lead out of the table.
        size = np.float32((size if size < np.float32(LIMIT) else np.float32(LIMIT)) + np.float32(1))
        distance = np.float32(np.float32(size).view(np.int32) - np.int32(ONE)) * np.float32(SCALE)
        places[i] = np.float32(MIDDLE) + (distance if logits[i] >= 0 else -distance)


@_compiled
def _count(logits, row, units, first, last, counts):
    """Into counts, flat, of C + 1 rows: what is not counted goes to the last one, without a branch."""
    classes, pixels = logits.shape[1], logits.shape[2]
    tiles = (pixels + TILE - 1) // TILE
    offset, places = np.empty(TILE, np.uint32), np.empty(TILE, np.float32)
    for tile in range(first, last):
        image, start = tile // tiles, tile % tiles * TILE
        here = slice(start, min(start + TILE, pixels))
        rows, share, size = row[image, here], units[image, here], min(TILE, pixels - start)
        for i in range(size):
            offset[i] = (rows[i] if rows[i] >= 0 else classes) * classes * BINS
        for channel in range(classes):
            values = logits[image, channel, here]
            for i in range(size):
                offset[i] = offset[i] if values[i] == values[i] else classes * classes * BINS
        for channel in range(classes):
            _places(logits[image, channel, here], places)
            for i in range(size):
                counts[np.uint32(offset[i] + np.uint32(channel * BINS) + np.uint32(places[i] + np.float32(0.5)))] += (
                    share[i]
                )


@_compiled_loose
def _loss(logits, row, weight, table, active, tau, gradient, losses, first, last):
    classes, pixels = logits.shape[1], logits.shape[2]
    tiles = (pixels + TILE - 1) // TILE
    moved, places = np.empty((classes, TILE), np.float32), np.empty(TILE, np.float32)
    label, cost = np.empty(TILE, np.int32), np.empty(TILE, np.float32)
    offset, strength = np.empty(TILE, np.uint32), np.empty(TILE, np.float32)
    for tile in range(first, last):
        image, start = tile // tiles, tile % tiles * TILE
        here = slice(start, min(start + TILE, pixels))
        rows, size = row[image, here], min(TILE, pixels - start)
        for i in range(size):
            counted, own = rows[i] >= 0, max(rows[i], 0)
            label[i] = own % classes if counted else -1
            cost[i] = weight[image, start + i] if counted else 0
            offset[i] = own * classes * BINS
            strength[i] = tau if counted and active[own] else 0
        for channel in range(classes):
            values = logits[image, channel, here]
            _places(values, places)
            for i in range(size):
                left = np.uint32(min(np.int32(places[i]), np.int32(BINS - 2)))
                at = np.uint32(offset[i] + np.uint32(channel * BINS) + left)
                low, high = table[at], table[np.uint32(at + np.uint32(1))]
                delta = low + (places[i] - np.float32(left)) * (high - low) - values[i]
                moved[channel, i] = values[i] - strength[i] * delta
        losses[tile] = _softmax_loss(moved[:, :size], label, cost)
        for channel in range(classes):
            slope = gradient[image, channel, here]
            for i in range(size):
                own = moved[channel, i] - (cost[i] if label[i] == channel else np.float32(0))
                slope[i] = own if label[i] >= 0 else np.float32(0)


@_compiled_loose
def _softmax_loss(logits, label, cost):
    """Summed cost * cross-entropy of logits (C, size); the logits become cost * softmax."""
    classes, size = logits.shape
    top, total, own = np.full(size, -np.inf, np.float32), np.zeros(size, np.float32), np.zeros(size, np.float32)
    for channel in range(classes):
        for i in range(size):
            top[i] = max(top[i], logits[channel, i])
            own[i] = logits[channel, i] if label[i] == channel else own[i]
    for channel in range(classes):
        for i in range(size):
            logits[channel, i] = np.exp(logits[channel, i] - top[i])
            total[i] += logits[channel, i]
    loss = 0.0
    for i in range(size):
        if label[i] >= 0:
            loss += np.float64(cost[i] * (np.log(total[i]) + top[i] - own[i]))
        total[i] = cost[i] / total[i]
    for channel in range(classes):
        for i in range(size):
            logits[channel, i] *= total[i]
    return loss
