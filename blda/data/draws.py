"""Numbered request for one sample."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Draw:
    """A request for one sample.

    index: which frame of the data set.
    number: position in the run's global sequence of draws; with the seed it decides everything random about the sample.
    wanted: class index the crop should show (rare-class sampling), None for any crop.
    """

    index: int
    number: int
    wanted: int | None = None
