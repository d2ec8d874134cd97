"""Counting and balanced cross-entropy on a GPU, in Triton, with the results of `blda/balance/kernels/cpu.py`.

A program takes PIXELS pixels of one image and loops over their classes, so that registers do not grow with the number
of classes. Logits may have any float type and strides; they are read without a copy.

| kernel | reads per logit | writes per logit | registers a thread (sm_90) |
| --- | --- | --- | --- |
| `_count` | the logit twice | one atomic of 8 bytes, in the L2 cache | 40 |
| `_gather` | nothing | a cell's share of 8 bytes a bin, once, of COPIES counts | 20 |
| `_loss` | the logit and two floats of the table, each twice | its gradient | 64 |

The kernels compute the rows of the lookup table from labels, weights and domains themselves. In plain torch this would
take a dozen launches, which take longer than their work.

The second reads mostly come from a cache. The registers are measured by tests/blda/balance/test_kernel_resources.py.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from blda.balance.kernels.cuda_axis import BINS, position
from blda.balance.logit_grid import UNITS
from blda.data.sample import IGNORE

PIXELS = 512
"""Pixels of a program."""

GATHERED = 1024
"""Counts of a program."""

WARPS = 4

COPIES, COPIES_BYTES = 8, 2**24
"""Largest number of copies of the histograms that programs add to, and largest memory of all copies.

Copies are needed because atomics on one address are serialised, and logits of a frequent class fall into a few bins.
"""


_UNITS = tl.constexpr(float(UNITS))
_IGNORE = tl.constexpr(IGNORE)
_WHOLE = tl.constexpr(float(2**23))
"""From here on, all float32 are whole numbers, so adding and subtracting it rounds to the nearest, half to even."""


def count(logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """Count logits by label: histograms (C, C, BINS) float64. The sums are exact, in any order.

    logits: (B, C, N) of any float type; a pixel with a NaN is not counted.
    labels: (B, N) int64; a label outside [0, C) is not counted.
    weight: weights of the pixels, (B, N) >= 0, rounded to multiples of 1 / UNITS; None for 1.
    """
    logits = _readable(logits)
    batch, num_classes, pixels = logits.shape
    copies = max(1, min(COPIES, COPIES_BYTES // (num_classes * num_classes * BINS.value * 8)))
    counts = torch.zeros(copies, num_classes, num_classes, BINS.value, dtype=torch.int64, device=logits.device)
    gathered = torch.empty(counts.shape[1:], dtype=torch.float64, device=logits.device)
    blocks = triton.cdiv(pixels, PIXELS)
    with torch.cuda.device_of(logits):
        if batch * blocks:
            maps = (labels.contiguous(), *_weights(weight, labels))
            sizes = (copies, num_classes, pixels, blocks, *logits.stride())
            _count[(batch * blocks,)](logits, *maps, counts, *sizes, PIXELS, num_warps=WARPS)
        size = gathered.numel()
        _gather[(triton.cdiv(size, GATHERED),)](counts, gathered, copies, size, GATHERED, num_warps=WARPS)
    return gathered


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

    No gradient flows through Delta; the gradient has the type of the logits, (B, C, N).

    logits: (B, C, N) of any float type.
    labels: (B, N) int64; IGNORE contributes nothing, other labels that are not classes make the loss NaN.
    domain: domain of each pixel, (B, N) bool or integers, or one for all; row domain x C + label of the lookup table
        corrects a pixel.
    weight: weights of the pixels, (B, N); None for 1.
    divisor: number that the loss is divided by.
    table: lookup table of aligned logits at the nodes, (R, C, BINS) float32.
    active: (R,) bool; rows that are not active have a Delta of 0.
    tau: strength of the correction.
    """
    logits = _readable(logits)
    batch, num_classes, pixels = logits.shape
    blocks = triton.cdiv(pixels, PIXELS)
    gradient = torch.empty_like(logits)
    losses = torch.empty(batch * blocks, dtype=torch.float32, device=logits.device)
    if batch * blocks:
        by_pixel = isinstance(domain, Tensor)
        domains = (_bytes(domain.contiguous()), 0, True) if by_pixel else (labels, domain * num_classes, False)
        maps = (labels.contiguous(), *domains, *_weights(weight, labels), float(divisor))
        sizes = (len(table), num_classes, pixels, blocks, *logits.stride(), *gradient.stride())
        tables = (table.contiguous(), _bytes(active.contiguous()), gradient, losses)
        with torch.cuda.device_of(logits):
            _loss[(batch * blocks,)](logits, *maps, *tables, float(tau), *sizes, PIXELS, num_warps=WARPS)
    return losses.sum(dtype=torch.float64), gradient


def _weights(weight: Tensor | None, labels: Tensor) -> tuple[Tensor, bool]:
    """Return the kernel's argument for the weights, a placeholder if there are none, and whether there are any."""
    return (labels, False) if weight is None else (weight.contiguous(), True)


def _bytes(values: Tensor) -> Tensor:
    """View bools as int8, which Triton accepts."""
    return values.view(torch.int8) if values.dtype == torch.bool else values


def _readable(logits: Tensor) -> Tensor:
    """Convert bfloat16 to float32 on GPUs below compute capability 8, on which Triton does not compile bfloat16."""
    old = logits.is_cuda and torch.cuda.get_device_capability(logits.device) < (8, 0)
    return logits.float() if logits.dtype == torch.bfloat16 and old else logits


@triton.jit
def _count(
    logits_at,
    labels_at,
    weight_at,
    weighted: tl.constexpr,
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
    row = tl.load(labels_at + (image * pixels + start) + pixel, inside, -1)
    counted = inside & (row >= 0) & (row < num_classes)
    units = tl.full((block,), _UNITS, tl.float32)
    if weighted:
        units *= tl.load(weight_at + (image * pixels + start) + pixel, counted, 0.0).to(tl.float32)
        units = tl.where(units < _WHOLE, (units + _WHOLE) - _WHOLE, units)
    units = units.to(tl.int64)

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
def _gather(counts_at, gathered_at, copies, size, block: tl.constexpr):
    """Sum the copies of the counts, and convert units to pixels."""
    place = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    total = tl.zeros((block,), tl.int64)
    for _ in range(copies):
        total += tl.load(counts_at + place, place < size, 0)
        counts_at += size
    tl.store(gathered_at + place, total.to(tl.float64) * (1.0 / _UNITS), place < size)


@triton.jit
def _corrected(logits, table_at, active, tau):
    """Compute z - tau * Delta of logits (block,); table_at: addresses of their cells (block, BINS). z if not active."""
    moved = active & (logits == logits)
    place = position(tl.where(moved, logits, 0.0))
    left = tl.minimum(place.to(tl.int32), BINS - 2)
    low, high = tl.load(table_at + left, moved, 0.0), tl.load(table_at + left + 1, moved, 0.0)
    delta = low + (place - left.to(tl.float32)) * (high - low) - logits
    return tl.where(moved, logits - tau * delta, logits)


@triton.jit
def _loss(
    logits_at,
    labels_at,
    domain_at,
    first_row,
    by_pixel: tl.constexpr,
    weight_at,
    weighted: tl.constexpr,
    divisor,
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
    label = tl.load(labels_at + (image * pixels + start) + pixel, inside, _IGNORE)
    known = (label >= 0) & (label < num_classes)
    # A label that is not a class makes the loss NaN, because a check on the host would wait for the device.
    counted = inside & (known | (label != _IGNORE))
    label = tl.where(known, label, 0)
    row = label + first_row
    if by_pixel:
        row += num_classes * tl.load(domain_at + (image * pixels + start) + pixel, inside, 0).to(tl.int64)
    known = known & (row >= 0) & (row < rows)
    row = tl.where(known, row, 0)
    weight = tl.full((block,), 1.0, tl.float32)
    if weighted:
        weight = tl.load(weight_at + (image * pixels + start) + pixel, counted, 0.0).to(tl.float32)
    weight = tl.where(known, weight / divisor, float("nan"))
    active = known & (tl.load(active_at + row, known, 0) != 0)
    label = label.to(tl.int32)

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
        # While all logits are -inf there is nothing to scale, and -inf - -inf would be NaN.
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
