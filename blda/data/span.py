"""Source pixels along one axis from which a part of a resized image is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass

FINEST = 64
"""Largest denominator of a scale whose arithmetic is exact: positions in float32 and weights in 1/2048 in OpenCV."""


@dataclass(frozen=True)
class Span:
    """Pixels of one axis: cut `source`, resize it to `size` pixels, then cut `part`.

    The result equals that part of the whole resized axis.
    """

    source: slice
    size: int
    part: slice


def span(old: int, new: int, start: int, length: int) -> Span:
    """Return the span of pixels `start` ... `start + length` of an axis that is resized from `old` to `new` pixels.

    A scale old / new = p / q repeats its weights every q pixels, so a source window of whole multiples of p is enough,
    with one more at either side for interpolation unless the image shrinks. The bits are the same where q is a power of
    two, as in 1080 -> 720 or 2048 -> 1024. Other scales round differently and take the whole axis.
    """
    units = math.gcd(old, new)
    p, q = old // units, new // units
    if q & (q - 1) or q > FINEST:
        return Span(slice(0, old), new, slice(start, start + length))
    margin = 1 if p <= q else 0
    first = max(start // q - margin, 0)
    last = min(-(-(start + length) // q) + margin, units)
    offset = start - first * q
    return Span(slice(first * p, last * p), (last - first) * q, slice(offset, offset + length))
