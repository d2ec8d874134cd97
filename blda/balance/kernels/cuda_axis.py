"""The logit grid (`blda/balance/logit_grid.py`) for Triton kernels."""

import triton
import triton.language as tl

from blda.balance import logit_grid

BINS = tl.constexpr(logit_grid.BINS)
_MIDDLE = tl.constexpr(logit_grid.MIDDLE)
_LIMIT = tl.constexpr(logit_grid.LIMIT)
_ONE = tl.constexpr(logit_grid.ONE)
_SCALE = tl.constexpr(logit_grid.SCALE)
_STEP = tl.constexpr(2**23 // logit_grid.PER_OCTAVE)


@triton.jit
def position(logits):
    """Compute `logit_grid.position` of float32 logits that are not NaN: float32 in [0, BINS - 1]."""
    size = tl.minimum(tl.abs(logits), _LIMIT) + 1.0
    distance = (size.to(tl.int32, bitcast=True) - _ONE).to(tl.float32) * _SCALE
    return tl.where(logits < 0, -distance, distance) + _MIDDLE


@triton.jit
def node(place):
    """Compute `logit_grid.nodes` at int32 places in [0, BINS - 1]; others give a finite number without meaning."""
    distance = tl.abs(place - _MIDDLE)
    size = (distance * _STEP + _ONE).to(tl.float32, bitcast=True) - 1.0
    return tl.where(place < _MIDDLE, -size, size)
