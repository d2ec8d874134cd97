"""The frames that flow passes on its way from a frame to its neighbour."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Protocol

from blda.data.readers.frames import Frame, Reader


class VideoReader(Reader, Protocol):
    """A `Reader` that knows the frames around a frame."""

    def neighbour(self, frame: Frame, offset: int) -> Frame | None:
        """The unlabelled frame `offset` frames later, None past the ends of the video."""
        ...


def waypoints(offset: int, chain: int | None) -> tuple[int, ...]:
    """Distances at which flow over `offset` frames stops, from 0 to `offset`; only these two when `chain` is None.

    chain: frames from one stop to the next; the last step is what remains. Raises ValueError when `chain` is below 1.
    """
    if chain is None:
        return 0, offset
    if chain < 1:
        raise ValueError(f"chain is {chain}; links of flow are 1 frame long or more, and null computes flow directly")
    return *range(0, offset, chain if offset > 0 else -chain), offset


def link_offsets(offsets: Iterable[int], chain: int | None) -> tuple[int, ...]:
    """Sorted signed distances of the links that compose the flow to neighbours at `offsets`."""
    stops = (waypoints(offset, chain) for offset in offsets)
    return tuple(sorted({b - a for each in stops for a, b in pairwise(each)}))


def route(reader: VideoReader, frame: Frame, offset: int, chain: int | None = None) -> tuple[Frame, ...]:
    """The frames at the waypoints, `frame` first, its neighbour last; none when one of them does not exist."""
    result = (frame, *(reader.neighbour(frame, stop) for stop in waypoints(offset, chain)[1:]))
    return () if None in result else result
