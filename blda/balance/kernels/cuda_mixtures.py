"""Fitting, averaging and aligning all mixtures at once on a GPU, in Triton, with the results of `LogitStatistics.fit`
and `alignment` in plain torch, in float32.

Plain torch takes about a hundred small operations a step, whose launches take longer than their work. `advance` takes
five launches and `align` two, without temporaries of the size of the histograms.

| kernel | program | reads | registers a thread (sm_90) |
| --- | --- | --- | --- |
| `_pool` | 128 bins of one class | the row's counts | 24 |
| `_fit` | one cell, all iterations | BINS counts of 8 bytes an iteration, from a cache after the first | 96 |
| `_note` | one class or anchor | BINS counts | 24 |
| `_tabulate` | 256 points of one anchor | nothing but the anchor | 27 |
| `_align` | one cell | per node, 14 floats of the anchor's table of 32 KB | 24 |

The registers are measured by tests/blda/balance/test_kernel_resources.py.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from blda.balance import gaussian_mixture
from blda.balance.gaussian_mixture import Mixture
from blda.balance.kernels.cuda_axis import BINS, node

ANCHORS = 2

NODES, WARPS = 128, 4
"""Number of nodes that a program works on at a time, one in each thread, and number of its warps."""

POINTS = tl.constexpr(8192)
"""Points of an anchor's table; a power of two, because `_align` searches it by halving."""

_DEVIATIONS = tl.constexpr(8.0)
_BACKGROUND = tl.constexpr(gaussian_mixture.BACKGROUND)
_MIN_VARIANCE = tl.constexpr(gaussian_mixture.MIN_VARIANCE)
_TINY = tl.constexpr(torch.finfo(torch.float32).tiny)
_TWO_PI = tl.constexpr(6.283185307179586)
_ROOT_HALF = tl.constexpr(0.7071067811865476)


class State(NamedTuple):
    """Buffers of `LogitStatistics`, contiguous, which are changed in place.

    mixture: (C, C, K). anchors: (2, K). estimated: (C + 2,) int8. absent: (C + 2,) int64. updates: () int64.
    """

    mixture: Mixture
    anchors: Mixture
    estimated: Tensor
    absent: Tensor
    updates: Tensor


class Settings(NamedTuple):
    """Settings of the average with the past; `LogitStatistics` documents them."""

    momentum: float
    warmup: float
    min_pixels: float


def advance(state: State, counts: Tensor, settings: Settings, iterations: int) -> None:
    """Run EM on counts (C, C, BINS), starting from the old mixtures, and average with them, in place.

    The result is that of `LogitStatistics.fit` in plain torch.
    """
    num_classes = len(counts)
    counts = counts.contiguous()
    components = state.mixture.means.shape[-1]
    padded = max(2, triton.next_power_of_2(components))
    pooled = torch.empty(num_classes, ANCHORS, BINS.value, dtype=torch.float64, device=counts.device)
    fit = (components, padded, iterations, NODES)
    with torch.cuda.device_of(counts):
        _pool[(num_classes * triton.cdiv(BINS.value, NODES),)](counts, pooled, num_classes, NODES, num_warps=WARPS)
        anchors = pooled.sum(0)
        history = (state.estimated, state.absent, state.updates, *map(float, settings))
        for mixture, histograms, first, columns in (
            (state.mixture, counts, 0, num_classes),
            (state.anchors, anchors, num_classes, 1),
        ):
            cells = mixture.means.numel() // components
            _fit[(cells,)](*mixture, histograms, *history, first, columns, *fit, num_warps=WARPS)
        _note[(num_classes + ANCHORS,)](
            counts, anchors, *history[:3], float(settings.min_pixels), num_classes, NODES, num_warps=WARPS
        )


def align(mixture: Mixture, anchors: Mixture, clip: float, table: Tensor, rows: Tensor) -> None:
    """Write F_a^-1(clip(F(z), clip, 1 - clip)) at all nodes into rows of a lookup table.

    mixture: class mixtures, (C, C, K).
    anchors: anchor mixtures, (2, K); the first one is for the diagonal.
    clip: F is clipped to [clip, 1 - clip].
    table: the lookup table, (C, C, BINS).
    rows: rows to write, (C,) bool; the others stay as they are.
    """
    num_classes, _, components = mixture.means.shape
    anchor_cdf, ends = torch.empty(2, POINTS.value, device=table.device), torch.empty(2, 2, device=table.device)
    fields, active = [field.contiguous() for field in mixture], rows.contiguous().view(torch.int8)
    with torch.cuda.device_of(table):
        _tabulate[(2 * POINTS.value // NODES,)](
            *(field.contiguous() for field in anchors), anchor_cdf, ends, components, NODES, num_warps=WARPS
        )
        _align[(num_classes * num_classes,)](
            *fields, active, anchor_cdf, ends, table, float(clip), num_classes, components, NODES, num_warps=WARPS
        )


@triton.jit
def _pool(counts_at, pooled_at, num_classes, block: tl.constexpr):
    """Sum the counts of each row's positive and negative logits: (C, C, BINS) -> (C, 2, BINS)."""
    blocks = (BINS + block - 1) // block
    row = (tl.program_id(0) // blocks).to(tl.int64)
    place = tl.program_id(0) % blocks * block + tl.arange(0, block)
    own, others = tl.zeros((block,), tl.float64), tl.zeros((block,), tl.float64)
    cell_at = counts_at + row * num_classes * BINS + place
    for column in range(num_classes):
        count = tl.load(cell_at, place < BINS, 0.0)
        own += tl.where(column == row, count, 0.0)
        others += tl.where(column == row, 0.0, count)
        cell_at += BINS
    tl.store(pooled_at + 2 * row * BINS + place, own, place < BINS)
    tl.store(pooled_at + (2 * row + 1) * BINS + place, others, place < BINS)


@triton.jit
def _total(counts_at, block: tl.constexpr):
    """Sum the counts of a cell."""
    total = tl.zeros((block,), tl.float64)
    for start in range(0, BINS, block):
        place = tl.arange(0, block) + start
        total += tl.load(counts_at + place, place < BINS, 0.0)
    return tl.sum(total, 0)


@triton.jit
def _past(entry, estimated_at, absent_at, updates_at, momentum, warmup):
    """Compute the weight of the past in the average of a row or anchor."""
    share = momentum
    if warmup > 0:
        share = momentum * tl.minimum(tl.load(updates_at).to(tl.float32) / warmup, 1.0)
    absent = tl.load(absent_at + entry).to(tl.float32)
    power = tl.where(share > 0, tl.exp(absent * tl.log(tl.maximum(share, _TINY))), 0.0)
    return tl.where(tl.load(estimated_at + entry) != 0, power, 0.0)


@triton.jit
def _between(fresh, kept, past):
    """Compute `torch.lerp(fresh, kept, past)`."""
    return tl.where(past < 0.5, fresh + past * (kept - fresh), kept - (kept - fresh) * (1.0 - past))


@triton.jit
def _fit(
    weights_at,
    means_at,
    variances_at,
    counts_at,
    estimated_at,
    absent_at,
    updates_at,
    momentum,
    warmup,
    min_pixels,
    first,
    columns,
    components: tl.constexpr,
    padded: tl.constexpr,
    iterations: tl.constexpr,
    block: tl.constexpr,
):
    """Fit one cell and average it with the past; cells in rows with too few pixels stay as they are.

    first: entry of row 0 in the arrays of the history. columns: number of cells in a row.
    """
    cell = tl.program_id(0).to(tl.int64)
    row = cell // columns
    component = tl.arange(0, padded)[:, None]
    real = component < components
    own = cell * components + component
    if _total(counts_at + row * columns * BINS, block) >= min_pixels:
        old_weight, old_mean = tl.load(weights_at + own, real, 0.0), tl.load(means_at + own, real, 0.0)
        old_variance = tl.load(variances_at + own, real, 1.0)
        weight, mean, variance = old_weight, old_mean, old_variance
        for _ in range(iterations):
            # Second moments are about the cell's mean, as in `em_step`.
            centre = tl.sum(weight * mean, 0)[None, :]
            peak, steep = weight * tl.rsqrt(variance * _TWO_PI), -0.5 / variance
            mass = tl.zeros((padded, block), tl.float32)
            one = tl.zeros((padded, block), tl.float32)
            two = tl.zeros((padded, block), tl.float32)
            for start in range(0, BINS, block):
                place = tl.arange(0, block)[None, :] + start
                count = tl.load(counts_at + cell * BINS + place, place < BINS, 0.0).to(tl.float32)
                value = node(place) - centre
                distance = value - (mean - centre)
                joint = tl.where(real, peak * tl.exp(steep * distance * distance) + _BACKGROUND, 0.0)
                share = joint * (count / tl.sum(joint, 0)[None, :])
                mass += share
                one += share * value
                two += share * value * value
            amount = tl.sum(mass, 1)[:, None]
            total = tl.sum(amount, 0)[None, :]
            amount = tl.maximum(amount, _TINY)
            moved = tl.sum(one, 1)[:, None] / amount
            spread = tl.maximum(tl.sum(two, 1)[:, None] / amount - moved * moved, _MIN_VARIANCE)
            # A cell without counts keeps its parameters.
            weight = tl.where(total > 0, tl.where(real, amount / tl.maximum(total, _TINY), 0.0), weight)
            mean = tl.where(total > 0, moved + centre, mean)
            variance = tl.where(total > 0, spread, variance)
        past = _past(first + row, estimated_at, absent_at, updates_at, momentum, warmup)
        tl.store(weights_at + own, _between(weight, old_weight, past), real)
        tl.store(means_at + own, _between(mean, old_mean, past), real)
        tl.store(variances_at + own, _between(variance, old_variance, past), real)


@triton.jit
def _note(counts_at, anchors_at, estimated_at, absent_at, updates_at, min_pixels, num_classes, block: tl.constexpr):
    """Update the history: which rows and anchors are estimated, updates since their last fit, and number of updates."""
    entry = tl.program_id(0).to(tl.int64)
    if entry < num_classes:
        histogram_at = counts_at + entry * num_classes * BINS
    else:
        histogram_at = anchors_at + (entry - num_classes) * BINS
    fed = _total(histogram_at, block) >= min_pixels
    absent = tl.load(absent_at + entry)
    tl.store(absent_at + entry, tl.where(fed, 1, absent + 1))
    tl.store(estimated_at + entry, tl.where(fed, 1, tl.load(estimated_at + entry)).to(tl.int8))
    if entry == 0:
        tl.store(updates_at, tl.load(updates_at) + 1)


@triton.jit
def _cdf(value, weights_at, means_at, variances_at, components: tl.constexpr):
    """Compute F at values (block,) of the mixture whose K weights, means and variances are at these addresses."""
    total = tl.zeros_like(value)
    for k in range(components):
        weight, mean, variance = tl.load(weights_at + k), tl.load(means_at + k), tl.load(variances_at + k)
        total += weight * (tl.erf((value - mean) * tl.rsqrt(variance) * _ROOT_HALF) * 0.5 + 0.5)
    return total


@triton.jit
def _tabulate(
    weights_at,
    means_at,
    variances_at,
    cdf_at,
    ends_at,
    components: tl.constexpr,
    block: tl.constexpr,
):
    """Tabulate F of the anchors at POINTS values between the ends, as `gaussian_mixture.tabulated` does.

    The ends are eight standard deviations beyond the means of all components.
    """
    anchor = tl.program_id(0) * block // POINTS
    point = tl.program_id(0) * block % POINTS + tl.arange(0, block)
    weights_at += anchor * components
    means_at += anchor * components
    variances_at += anchor * components
    low, high = float("inf"), float("-inf")
    for k in range(components):
        mean, reach = tl.load(means_at + k), tl.sqrt(tl.load(variances_at + k)) * _DEVIATIONS
        low, high = tl.minimum(mean - reach, low), tl.maximum(mean + reach, high)
    value = low + (high - low) * (point.to(tl.float32) / (POINTS - 1))
    tl.store(cdf_at + anchor * POINTS + point, _cdf(value, weights_at, means_at, variances_at, components))
    tl.store(ends_at + 2 * anchor, low)
    tl.store(ends_at + 2 * anchor + 1, high)


@triton.jit
def _align(
    weights_at,
    means_at,
    variances_at,
    active_at,
    cdf_at,
    ends_at,
    table_at,
    clip,
    num_classes,
    components: tl.constexpr,
    block: tl.constexpr,
):
    cell = tl.program_id(0).to(tl.int64)
    row, column = cell // num_classes, cell % num_classes
    if tl.load(active_at + row) != 0:
        anchor = tl.where(row == column, 0, 1)
        cdf_at += anchor * POINTS
        low, high = tl.load(ends_at + 2 * anchor), tl.load(ends_at + 2 * anchor + 1)
        own = cell * components
        for start in range(0, BINS, block):
            place = tl.arange(0, block) + start
            cdf_value = _cdf(node(place), weights_at + own, means_at + own, variances_at + own, components)
            cdf_value = tl.minimum(tl.maximum(cdf_value, clip), 1.0 - clip)
            # Count the points of the anchor's table that lie below, with the largest steps first.
            right = tl.zeros((block,), tl.int32)
            step = POINTS // 2
            while step > 0:
                right += tl.where(tl.load(cdf_at + right + (step - 1)) < cdf_value, step, 0)
                step = step // 2
            right = tl.maximum(right, 1)
            below, above = tl.load(cdf_at + right - 1), tl.load(cdf_at + right)
            share = (cdf_value - below) / tl.maximum(above - below, 1e-12)
            share = tl.minimum(tl.maximum(share, 0.0), 1.0)
            level = low + (high - low) * (((right - 1).to(tl.float32) + share) / (POINTS - 1))
            tl.store(table_at + cell * BINS + place, level, place < BINS)
