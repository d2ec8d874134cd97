"""Counting and balanced cross-entropy on a GPU: Triton, one read of the logits each; as `blda/kernels/cpu.py`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from blda.grid import BINS, LIMIT, MIDDLE, ONE, SCALE, UNITS

LOGITS = 4096
"""Logits a program holds at a time; as many pixels as fit."""


def count(logits: Tensor, row: Tensor, units: Tensor) -> Tensor:
    """Histograms (C, C, BINS) float64 of logits (B, C, N) float32 by row (B, N) int64, -1 for none.

    units: (B, N) int64, what a pixel counts, in parts of 1 / UNITS.
    """
    batch, classes, pixels = logits.shape
    counts = torch.zeros(classes, classes, BINS, dtype=torch.int64, device=logits.device)
    grid, padded, block = _grid(batch, classes, pixels)
    _count[grid](logits, row, units, counts, classes, pixels, *_AXIS, padded, block)
    return counts.double() / UNITS


def loss_and_gradient(
    logits: Tensor, row: Tensor, weight: Tensor, table: Tensor, active: Tensor, tau: float
) -> tuple[Tensor, Tensor]:
    """Sum of weight * CE(z - tau * Delta, row % C), float64, and its gradient by the logits, as if Delta were fixed.

    logits: (B, C, N) float32. row: (B, N) int64 into the table, -1 for pixels that cost nothing. weight: (B, N)
    float32. table: (R, C, BINS) float32, aligned logits at the nodes. active: (R,) bool, False where Delta is 0.
    """
    batch, classes, pixels = logits.shape
    gradient, losses = torch.empty_like(logits), torch.empty_like(weight)
    grid, padded, block = _grid(batch, classes, pixels)
    tensors = (logits, row, weight, table.contiguous(), active.to(torch.int8), gradient, losses)
    _loss[grid](*tensors, tau, classes, pixels, *_AXIS, padded, block)
    return losses.sum(dtype=torch.float64), gradient


_AXIS = (BINS, MIDDLE, LIMIT, ONE, SCALE)


def _grid(batch: int, classes: int, pixels: int) -> tuple[tuple[int, int], int, int]:
    """Programs, classes padded to a power of two, and pixels a program."""
    padded = triton.next_power_of_2(classes)
    block = max(16, LOGITS // padded)
    return (triton.cdiv(pixels, block), batch), padded, block


@triton.jit
def _place(logits, middle: tl.constexpr, limit: tl.constexpr, one: tl.constexpr, scale: tl.constexpr):
    """`grid.position` of logits that are numbers."""
    size = tl.minimum(tl.abs(logits), limit) + 1.0
    distance = (size.to(tl.int32, bitcast=True) - one).to(tl.float32) * scale
    return middle + tl.where(logits < 0, -distance, distance)


@triton.jit
def _count(
    logits_at,
    row_at,
    units_at,
    counts_at,
    classes,
    pixels,
    bins: tl.constexpr,
    middle: tl.constexpr,
    limit: tl.constexpr,
    one: tl.constexpr,
    scale: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * block + tl.arange(0, block)
    channel = tl.arange(0, padded)[:, None]
    inside = pixel < pixels
    known = inside[None, :] & (channel < classes)
    logits = tl.load(logits_at + (image * classes + channel) * pixels + pixel[None, :], known, 0.0)
    row = tl.load(row_at + image * pixels + pixel, inside, -1)
    units = tl.load(units_at + image * pixels + pixel, inside, 0)
    numbers = tl.sum((logits != logits).to(tl.int32), 0) == 0
    place = (_place(tl.where(logits == logits, logits, 0.0), middle, limit, one, scale) + 0.5).to(tl.int32)
    counted = known & ((row >= 0) & numbers)[None, :]
    cell = tl.where(counted, (row[None, :] * classes + channel) * bins + place, 0)
    tl.atomic_add(counts_at + cell, tl.broadcast_to(units[None, :], cell.shape), counted, sem="relaxed")


@triton.jit
def _loss(
    logits_at,
    row_at,
    weight_at,
    table_at,
    active_at,
    gradient_at,
    losses_at,
    tau,
    classes,
    pixels,
    bins: tl.constexpr,
    middle: tl.constexpr,
    limit: tl.constexpr,
    one: tl.constexpr,
    scale: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * block + tl.arange(0, block)
    channel = tl.arange(0, padded)[:, None]
    inside = pixel < pixels
    known = inside[None, :] & (channel < classes)
    where = (image * classes + channel) * pixels + pixel[None, :]
    logits = tl.load(logits_at + where, known, float("-inf"))
    row = tl.load(row_at + image * pixels + pixel, inside, -1)
    counted = row >= 0
    active = tl.load(active_at + row, counted, 0) != 0

    corrected = known & active[None, :] & (logits == logits)
    place = _place(tl.where(corrected, logits, 0.0), middle, limit, one, scale)
    left = tl.minimum(place.to(tl.int32), bins - 2)
    cell = tl.where(corrected, (row[None, :] * classes + channel) * bins + left, 0)
    low, high = tl.load(table_at + cell, corrected, 0.0), tl.load(table_at + cell + 1, corrected, 0.0)
    delta = low + (place - left.to(tl.float32)) * (high - low) - logits
    logits = tl.where(corrected, logits - tau * delta, logits)

    top = tl.max(logits, 0)
    power = tl.exp(logits - top[None, :])
    total = tl.sum(power, 0)
    own = channel == (row % classes)[None, :]
    weight = tl.where(counted, tl.load(weight_at + image * pixels + pixel, inside, 0.0), 0.0)
    cost = weight * (tl.log(total) + top - tl.sum(tl.where(own, logits, 0.0), 0))
    tl.store(losses_at + image * pixels + pixel, tl.where(counted, cost, 0.0), inside)
    slope = (power / total[None, :] - own.to(tl.float32)) * weight[None, :]
    tl.store(gradient_at + where, tl.where(counted[None, :], slope, 0.0), known)
