"""Counting and balanced cross-entropy on a GPU, in Triton; the same results as `blda/balance/kernels/cpu.py`.

A program takes PIXELS pixels of one image, their classes one after another, so that registers do not grow with the
number of classes. Logits may be of any float type and strides: they are read as they are, without a copy.

| kernel | reads per logit | writes per logit | registers a thread (sm_90) |
| --- | --- | --- | --- |
| `_count` | the logit twice | one atomic of 8 bytes, in the L2 cache | 40 |
| `_loss` | the logit and two floats of the table, each twice | its gradient | 64 |

The second reads mostly come from a cache. The registers are measured by tests/blda/balance/test_kernel_resources.py.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from blda.balance.kernels.cuda_axis import BINS, position
from blda.balance.logit_grid import UNITS

PIXELS = 512
"""Pixels a program."""

WARPS = 4

COPIES, COPIES_BYTES = 8, 2**24
"""Most histograms that programs share out among them, and most memory for these.

Atomics on one address follow one another, and logits of a frequent class crowd into a few bins.
"""


def count(logits: Tensor, row: Tensor, units: Tensor) -> Tensor:
    """Histograms (C, C, BINS) float64 of logits (B, C, N) by row (B, N) int64.

    units: (B, N) int64, what a pixel counts, in parts of 1 / UNITS. A row outside [0, C) counts nothing, and neither
    does a pixel with a logit that is NaN. Exact, in any order.
    """
    logits = _readable(logits)
    batch, num_classes, pixels = logits.shape
    copies = max(1, min(COPIES, COPIES_BYTES // (num_classes * num_classes * BINS.value * 8)))
    counts = torch.zeros(copies, num_classes, num_classes, BINS.value, dtype=torch.int64, device=logits.device)
    blocks = triton.cdiv(pixels, PIXELS)
    if batch * blocks:
        tensors = (logits, row.contiguous(), units.contiguous(), counts)
        with torch.cuda.device_of(logits):
            _count[(batch * blocks,)](
                *tensors, copies, num_classes, pixels, blocks, *logits.stride(), PIXELS, num_warps=WARPS
            )
    return (counts[0] if copies == 1 else counts.sum(0)).double().div_(UNITS)


def loss_and_gradient(
    logits: Tensor, row: Tensor, weight: Tensor, table: Tensor, active: Tensor, tau: float
) -> tuple[Tensor, Tensor]:
    """Sum of weight * CE(z - tau * Delta, row % C), float64, and its gradient by the logits, as if Delta were fixed.

    logits: (B, C, N), any float type, which is the gradient's too. row: (B, N) int64 into the table; pixels with one
    outside [0, R) cost nothing. weight: (B, N) float32. table: (R, C, BINS) float32, aligned logits at the nodes.
    active: (R,) bool, False where Delta is 0.
    """
    logits = _readable(logits)
    batch, num_classes, pixels = logits.shape
    blocks = triton.cdiv(pixels, PIXELS)
    gradient = torch.empty_like(logits)
    losses = torch.zeros(batch * blocks, dtype=torch.float32, device=logits.device)
    if batch * blocks:
        maps = (row.contiguous(), weight.float().contiguous())
        tensors = (logits, *maps, table.contiguous(), active.contiguous().view(torch.int8), gradient, losses)
        sizes = (len(table), num_classes, pixels, blocks, *logits.stride(), *gradient.stride())
        with torch.cuda.device_of(logits):
            _loss[(batch * blocks,)](*tensors, float(tau), *sizes, PIXELS, num_warps=WARPS)
    return losses.sum(dtype=torch.float64), gradient


def _readable(logits: Tensor) -> Tensor:
    """Logits of a type that the GPU knows: bfloat16 came with compute capability 8, and older Tritons insist on it."""
    old = logits.is_cuda and torch.cuda.get_device_capability(logits.device) < (8, 0)
    return logits.float() if logits.dtype == torch.bfloat16 and old else logits


@triton.jit
def _count(
    logits_at,
    row_at,
    units_at,
    counts_at,
    copies,
    num_classes: tl.constexpr,
    pixels,
    blocks,
    image_stride,
    class_stride,
    pixel_stride,
    block: tl.constexpr,
):
    program = tl.program_id(0)
    image = (program // blocks).to(tl.int64)
    start = (program % blocks).to(tl.int64) * block
    pixel = tl.arange(0, block)
    inside = pixel < pixels - start
    row = tl.load(row_at + (image * pixels + start) + pixel, inside, -1)
    units = tl.load(units_at + (image * pixels + start) + pixel, inside, 0)
    counted = inside & (row >= 0) & (row < num_classes)

    first_at = logits_at + (image * image_stride + start * pixel_stride)
    channel_at = first_at
    for _ in range(num_classes):
        logits = tl.load(channel_at + pixel * pixel_stride, inside, 0.0).to(tl.float32)
        counted = counted & (logits == logits)
        channel_at += class_stride

    cells_at = counts_at + (program % copies).to(tl.int64) * num_classes * num_classes * BINS
    cells_at = cells_at + tl.where(counted, row, 0) * (num_classes * BINS)
    channel_at = first_at
    for _ in range(num_classes):
        logits = tl.load(channel_at + pixel * pixel_stride, inside, 0.0).to(tl.float32)
        tl.atomic_add(cells_at + (position(logits) + 0.5).to(tl.int32), units, counted, sem="relaxed")
        channel_at += class_stride
        cells_at += BINS


@triton.jit
def _corrected(logits, table_at, active, tau):
    """z - tau * Delta of logits (block,) by the cells of the table (block, BINS) at table_at; z where not active."""
    moved = active & (logits == logits)
    place = position(tl.where(moved, logits, 0.0))
    left = tl.minimum(place.to(tl.int32), BINS - 2)
    low, high = tl.load(table_at + left, moved, 0.0), tl.load(table_at + left + 1, moved, 0.0)
    delta = low + (place - left.to(tl.float32)) * (high - low) - logits
    return tl.where(moved, logits - tau * delta, logits)


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
    rows,
    num_classes: tl.constexpr,
    pixels,
    blocks,
    image_stride,
    class_stride,
    pixel_stride,
    gradient_image_stride,
    gradient_class_stride,
    gradient_pixel_stride,
    block: tl.constexpr,
):
    program = tl.program_id(0)
    image = (program // blocks).to(tl.int64)
    start = (program % blocks).to(tl.int64) * block
    pixel = tl.arange(0, block)
    inside = pixel < pixels - start
    row = tl.load(row_at + (image * pixels + start) + pixel, inside, -1)
    counted = inside & (row >= 0) & (row < rows)
    row = tl.where(counted, row, 0)
    weight = tl.load(weight_at + (image * pixels + start) + pixel, counted, 0.0)
    active = counted & (tl.load(active_at + row, counted, 0) != 0)
    label = (row % num_classes).to(tl.int32)

    # The softmax's denominator, relative to the largest logit so far.
    top = tl.full((block,), float("-inf"), tl.float32)
    total = tl.zeros((block,), tl.float32)
    own = tl.zeros((block,), tl.float32)
    first_at = logits_at + (image * image_stride + start * pixel_stride)
    channel_at, cells_at = first_at, table_at + row * (num_classes * BINS)
    for channel in range(num_classes):
        logits = tl.load(channel_at + pixel * pixel_stride, inside, 0.0).to(tl.float32)
        logits = _corrected(logits, cells_at, active, tau)
        own = tl.where(label == channel, logits, own)
        largest = tl.maximum(top, logits)
        # Until a logit is above -inf there is nothing to scale, and -inf - -inf would be NaN.
        base = tl.where(largest == float("-inf"), 0.0, largest)
        total = total * tl.exp(top - base) + tl.exp(logits - base)
        top = largest
        channel_at += class_stride
        cells_at += BINS
    cost = weight * (tl.log(total) + top - own)
    tl.store(losses_at + program, tl.sum(tl.where(counted, cost, 0.0), 0))

    share = weight / total
    channel_at, cells_at = first_at, table_at + row * (num_classes * BINS)
    slope_at = gradient_at + (image * gradient_image_stride + start * gradient_pixel_stride)
    for channel in range(num_classes):
        logits = tl.load(channel_at + pixel * pixel_stride, inside, 0.0).to(tl.float32)
        logits = _corrected(logits, cells_at, active, tau)
        slope = share * tl.exp(logits - top) - tl.where(label == channel, weight, 0.0)
        slope = tl.where(counted, slope, 0.0).to(gradient_at.dtype.element_ty)
        tl.store(slope_at + pixel * gradient_pixel_stride, slope, inside)
        channel_at += class_stride
        cells_at += BINS
        slope_at += gradient_class_stride
