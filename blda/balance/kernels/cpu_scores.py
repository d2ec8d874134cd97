"""Scores of post-hoc calibration on the CPU, compiled by numba; threads take tiles of pixels."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from blda.balance.kernels.compiling import compiled
from blda.balance.kernels.cpu import TILE, _correct
from blda.balance.kernels.elementary import exp
from blda.balance.kernels.threads import over_threads
from blda.balance.logit_grid import BINS

_compiled_loose = compiled(fastmath={"contract", "reassoc", "nsz"})


def scores(logits: Tensor, table: Tensor, active: Tensor, tau: float) -> Tensor:
    """Compute log softmax_l( z_l + tau * Delta_cl(z_l) )[c] for every candidate class c: (B, C, N) float32.

    logits: (B, C, N) of any float type, all finite. table: lookup table of aligned logits, (C, C, BINS) float32.
    active: (C,) bool; other rows have a Delta of 0. tau: strength of the correction.
    """
    logits = logits.float().contiguous()
    result = np.empty(logits.shape, np.float32)
    tiles = len(logits) * math.ceil(logits.shape[2] / TILE)
    strength = torch.where(active, -tau, 0.0).float()
    arrays = (*(tensor.contiguous().numpy() for tensor in (logits, table.flatten(), strength)), result)
    over_threads(lambda part: _scores(*arrays, part.start, part.stop), tiles)
    return torch.from_numpy(result)


@_compiled_loose
def _scores(logits, table, strength, result, first, last):
    num_classes, pixels = logits.shape[1], logits.shape[2]
    tiles = (pixels + TILE - 1) // TILE
    moved = np.empty((num_classes, TILE), np.float32)
    offset, rate, top = np.empty(TILE, np.uint32), np.empty(TILE, np.float32), np.empty(TILE, np.float32)
    total = np.empty(TILE, np.float32)
    for tile in range(first, last):
        image, start = tile // tiles, tile % tiles * TILE
        here = slice(start, min(start + TILE, pixels))
        for candidate in range(num_classes):
            offset[:] = np.uint32(candidate * num_classes * BINS)
            rate[:], top[:], total[:] = strength[candidate], -np.inf, 0
            for channel in range(num_classes):
                _correct(logits[image, channel, here], table, channel * BINS, offset, rate, moved[channel], top)
            own = result[image, candidate, here]
            for channel in range(num_classes):
                for i in range(len(own)):
                    total[i] += exp(moved[channel, i] - top[i])
            for i in range(len(own)):
                own[i] = moved[candidate, i] - top[i] - np.log(total[i])
