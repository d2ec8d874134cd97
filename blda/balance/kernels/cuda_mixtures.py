"""Fitting and aligning all mixtures at once on a GPU, in Triton; the same results as
`blda/balance/gaussian_mixture.py`, in float32.

In plain torch these are some hundred small operations a step, whose launches take longer than their work. Here `fit`
takes one launch and `aligned` two, with no temporary of the size of the histograms.

| kernel | program | reads | registers a thread (sm_90) |
| --- | --- | --- | --- |
| `_fit` | one cell, all iterations | BINS counts of 8 bytes an iteration, from a cache after the first | 91 |
| `_tabulate` | 256 points of one anchor | nothing but the anchor | 27 |
| `_align` | one cell | per node, 14 floats of the anchor's table of 32 KB | 24 |

The registers are measured by tests/blda/balance/test_kernel_resources.py.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from blda.balance import gaussian_mixture
from blda.balance.gaussian_mixture import Mixture
from blda.balance.kernels.cuda_axis import BINS, node

NODES, WARPS = 128, 4
"""Nodes that a program works on at a time, one a thread."""

POINTS = tl.constexpr(8192)
"""Of an anchor's table; a power of two, for `_align` halves it until it has found its place."""

_DEVIATIONS = tl.constexpr(8.0)
_BACKGROUND = tl.constexpr(gaussian_mixture.BACKGROUND)
_MIN_VARIANCE = tl.constexpr(gaussian_mixture.MIN_VARIANCE)
_TINY = tl.constexpr(torch.finfo(torch.float32).tiny)
_TWO_PI = tl.constexpr(6.283185307179586)
_ROOT_HALF = tl.constexpr(0.7071067811865476)


def fit(mixture: Mixture, counts: Tensor, iterations: int, rows: Tensor | None = None) -> Mixture:
    """`gmm.em_step` at the nodes so many times: mixture (..., K), counts (..., BINS) of any float type -> (..., K).

    rows: which the caller wants; all are fitted, for to look would wait for the device.
    """
    arguments = [field.contiguous() for field in mixture]
    fitted = Mixture(*map(torch.empty_like, arguments))
    components = mixture.means.shape[-1]
    cells, padded = fitted.means.numel() // components, max(2, triton.next_power_of_2(components))
    if cells:
        with torch.cuda.device_of(counts):
            _fit[(cells,)](
                *arguments, counts.contiguous(), *fitted, components, padded, iterations, NODES, num_warps=WARPS
            )
    return fitted


def align(mixture: Mixture, anchors: Mixture, clip: float, table: Tensor, rows: Tensor) -> None:
    """Into rows of the table (C, C, BINS): F_a^-1(clip(F(z), clip, 1 - clip)) of mixtures (C, C, K) at all nodes.

    anchors: (2, K), the first for the diagonal. rows: (C,) bool; the others are left as they are.
    """
    num_classes, _, components = mixture.means.shape
    heights, ends = torch.empty(2, POINTS.value, device=table.device), torch.empty(2, 2, device=table.device)
    fields, wanted = [field.contiguous() for field in mixture], rows.to(torch.int8)
    with torch.cuda.device_of(table):
        _tabulate[(2 * POINTS.value // NODES,)](
            *(field.contiguous() for field in anchors), heights, ends, components, NODES, num_warps=WARPS
        )
        _align[(num_classes * num_classes,)](
            *fields, wanted, heights, ends, table, float(clip), num_classes, components, NODES, num_warps=WARPS
        )


@triton.jit
def _fit(
    weights_at,
    means_at,
    variances_at,
    counts_at,
    fitted_weights_at,
    fitted_means_at,
    fitted_variances_at,
    components: tl.constexpr,
    padded: tl.constexpr,
    iterations: tl.constexpr,
    block: tl.constexpr,
):
    cell = tl.program_id(0).to(tl.int64)
    component = tl.arange(0, padded)[:, None]
    real = component < components
    own = cell * components + component
    weight, mean = tl.load(weights_at + own, real, 0.0), tl.load(means_at + own, real, 0.0)
    variance = tl.load(variances_at + own, real, 1.0)
    for _ in range(iterations):
        # Second moments are taken about the cell's mean, as in `gmm.em_step`.
        centre = tl.sum(weight * mean, 0)[None, :]
        peak, steep = weight * tl.rsqrt(variance * _TWO_PI), -0.5 / variance
        mass = tl.zeros((padded, block), tl.float32)
        first = tl.zeros((padded, block), tl.float32)
        second = tl.zeros((padded, block), tl.float32)
        for start in range(0, BINS, block):
            place = tl.arange(0, block)[None, :] + start
            count = tl.load(counts_at + cell * BINS + place, place < BINS, 0.0).to(tl.float32)
            value = node(place) - centre
            distance = value - (mean - centre)
            joint = tl.where(real, peak * tl.exp(steep * distance * distance) + _BACKGROUND, 0.0)
            share = joint * (count / tl.sum(joint, 0)[None, :])
            mass += share
            first += share * value
            second += share * value * value
        amount = tl.sum(mass, 1)[:, None]
        total = tl.sum(amount, 0)[None, :]
        amount = tl.maximum(amount, _TINY)
        moved = tl.sum(first, 1)[:, None] / amount
        spread = tl.maximum(tl.sum(second, 1)[:, None] / amount - moved * moved, _MIN_VARIANCE)
        # A cell without evidence keeps its parameters.
        weight = tl.where(total > 0, tl.where(real, amount / tl.maximum(total, _TINY), 0.0), weight)
        mean = tl.where(total > 0, moved + centre, mean)
        variance = tl.where(total > 0, spread, variance)
    tl.store(fitted_weights_at + own, weight, real)
    tl.store(fitted_means_at + own, mean, real)
    tl.store(fitted_variances_at + own, variance, real)


@triton.jit
def _height(value, weights_at, means_at, variances_at, components: tl.constexpr):
    """F at values (block,) of the mixture whose K weights, means and variances are at these addresses."""
    height = tl.zeros_like(value)
    for k in range(components):
        weight, mean, variance = tl.load(weights_at + k), tl.load(means_at + k), tl.load(variances_at + k)
        height += weight * (tl.erf((value - mean) * tl.rsqrt(variance) * _ROOT_HALF) * 0.5 + 0.5)
    return height


@triton.jit
def _tabulate(
    weights_at,
    means_at,
    variances_at,
    heights_at,
    ends_at,
    components: tl.constexpr,
    block: tl.constexpr,
):
    """F of the anchors at POINTS places between the ends, eight deviations around every component; `gmm.tabulated`."""
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
    tl.store(heights_at + anchor * POINTS + point, _height(value, weights_at, means_at, variances_at, components))
    tl.store(ends_at + 2 * anchor, low)
    tl.store(ends_at + 2 * anchor + 1, high)


@triton.jit
def _align(
    weights_at,
    means_at,
    variances_at,
    active_at,
    heights_at,
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
        heights_at += anchor * POINTS
        low, high = tl.load(ends_at + 2 * anchor), tl.load(ends_at + 2 * anchor + 1)
        own = cell * components
        for start in range(0, BINS, block):
            place = tl.arange(0, block) + start
            height = _height(node(place), weights_at + own, means_at + own, variances_at + own, components)
            height = tl.minimum(tl.maximum(height, clip), 1.0 - clip)
            # How many points of the anchor's table lie below: the largest steps first.
            right = tl.zeros((block,), tl.int32)
            step = POINTS // 2
            while step > 0:
                right += tl.where(tl.load(heights_at + right + (step - 1)) < height, step, 0)
                step = step // 2
            right = tl.maximum(right, 1)
            below, above = tl.load(heights_at + right - 1), tl.load(heights_at + right)
            share = (height - below) / tl.maximum(above - below, 1e-12)
            share = tl.minimum(tl.maximum(share, 0.0), 1.0)
            level = low + (high - low) * (((right - 1).to(tl.float32) + share) / (POINTS - 1))
            tl.store(table_at + cell * BINS + place, level, place < BINS)
