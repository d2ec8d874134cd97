"""Ranges of numbers, written beside each field of the schema as its type."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """Range of numbers from low to high.

    above, below: exclude low or high itself. Floats must be finite.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        large = self.low < value if self.above else self.low <= value
        small = value < self.high if self.below else value <= self.high
        return math.isfinite(value) and large and small

    def __str__(self) -> str:
        least = "" if self.low == -math.inf else f"{'above' if self.above else 'at least'} {self.low:g}"
        most = "" if self.high == math.inf else f"{'below' if self.below else 'at most'} {self.high:g}"
        return " and ".join(filter(None, (least, most))) or "a finite number"


Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Offset = Annotated[int, Range(-10000, 10000)]
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
PositiveShare = Annotated[float, Range(0, 1, above=True)]
Size = tuple[Count, Count]
"""(height, width)."""
