"""Elementary functions of float32 numbers, which compiled loops evaluate with the CPU's vector instructions."""

from __future__ import annotations

import math

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

from blda.balance.kernels.compiling import inlined

# Not "reassoc": it would undo the rounding in `exp`.
_inlined = inlined(fastmath={"contract"})

SMALLEST = np.float32(-87)
PER_LOG2 = np.float32(1 / math.log(2))
ROUNDING = np.float32(1.5 * 2**23)
"""A float32 sum with this number has the nearest whole number in its low bits."""
LOG2_HIGH = np.float32(0.693359375)
LOG2_LOW = np.float32(math.log(2) - 0.693359375)
_HALF_OCTAVE = (-math.log(2) / 2, math.log(2) / 2)
EXP = tuple(np.float32(Chebyshev.interpolate(np.exp, 6, _HALF_OCTAVE).convert(kind=Polynomial).coef))
"""Coefficients of a polynomial for e^x between -log(2) / 2 and log(2) / 2."""

ONE, HALF = np.float32(1), np.float32(0.5)
STEP = np.float32(0.2316419)
TAIL = tuple(
    np.float32(factor / math.sqrt(2 * math.pi))
    for factor in (0.319381530, -0.356563782, 1.781477937, -1.821255978, 1.330274429)
)


@_inlined
def exp(x):
    """Compute e^x of a float32 x <= 0, with a relative error below 2e-7.

    Below -87 the result is e^-87, about 1e-38. NaN stays NaN.
    """
    x = SMALLEST if x < SMALLEST else x
    shifted = np.float32(x * PER_LOG2 + ROUNDING)
    whole = np.float32(shifted - ROUNDING)
    rest = x - whole * LOG2_HIGH - whole * LOG2_LOW
    power = EXP[6]
    power = power * rest + EXP[5]
    power = power * rest + EXP[4]
    power = power * rest + EXP[3]
    power = power * rest + EXP[2]
    power = power * rest + EXP[1]
    power = power * rest + EXP[0]
    # 2^whole, by the bits of its exponent.
    scale = np.int32((shifted.view(np.int32) << np.int32(23)) + np.int32(0x3F800000)).view(np.float32)
    return np.float32(power * scale)


@_inlined
def normal_cdf(x):
    """Compute Phi(x) of a float32 x, with an error below 3e-7 (Abramowitz and Stegun, 26.2.17)."""
    step = ONE / (ONE + STEP * abs(x))
    tail = TAIL[4]
    tail = tail * step + TAIL[3]
    tail = tail * step + TAIL[2]
    tail = tail * step + TAIL[1]
    tail = tail * step + TAIL[0]
    tail = tail * step * exp(-HALF * x * x)
    return ONE - tail if x > 0 else tail
