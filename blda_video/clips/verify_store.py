"""Verify that a store holds the flow that clips of a reader need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from accelerate.utils import gather_object
from tqdm import tqdm

from blda.data.readers.frames import Frame
from blda_video.clips.fill_store import pairs
from blda_video.clips.route import VideoReader, link_offsets
from blda_video.flow.flow_store import StoredFlow


@dataclass(frozen=True)
class Verdict:
    """Result of a verification.

    wanted: number of flows that are needed. missing: paths of the absent ones. faults: descriptions of damaged ones.
    """

    wanted: int = 0
    missing: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(self.wanted + other.wanted, self.missing + other.missing, self.faults + other.faults)

    def lines(self) -> list[str]:
        """Describe each fault and its fix in one line; empty when nothing is wrong."""
        if not self.missing:
            return list(self.faults)
        text = f"{len(self.missing)} of {self.wanted} flows are missing, the first {self.missing[0]}"
        return [f"{text}; make them with: blda compute-flow CONFIG", *self.faults]


def verify(
    reader: VideoReader,
    offsets: Sequence[int],
    store: StoredFlow,
    rank: int = 0,
    world: int = 1,
    chain: int | None = None,
    progress: bool = True,
    skip_unreadable: bool = False,
) -> Verdict:
    """Read all flow of the share of process `rank` of `world`.

    Each flow must exist, be whole, have the size of its frame, and know most of its vectors. chain: as in `pairs`.
    skip_unreadable: frames that cannot be read need no flow. Raises ValueError when the store is made for other
    offsets.
    """
    if offsets:
        store.require(link_offsets(offsets, chain))
    share = pairs(reader, offsets, both_ways=store.both_ways, chain=chain)[rank::world]
    verdict = Verdict()
    for first, second in tqdm(share, desc="check", unit="pair", disable=not progress):
        ways = ((first, second), (second, first)) if store.both_ways else ((first, second),)
        verdict += _pair(ways, store, skip_unreadable)
    return verdict


def gathered(verdict: Verdict) -> Verdict:
    """Gather the verdicts of all processes into one."""
    return sum(gather_object([verdict]), Verdict())


def _pair(ways: Sequence[tuple[Frame, Frame]], store: StoredFlow, skip_unreadable: bool) -> Verdict:
    key, neighbour = ways[0]
    try:
        size = key.read().shape[:2]
        if skip_unreadable:
            neighbour.read()
    except (ValueError, OSError) as error:
        return Verdict() if skip_unreadable else Verdict(len(ways), (), (str(error),))
    names = [(a.name, b.name) for a, b in ways]
    missing = tuple(str(store.path(*each)) for each in names if not store.has(*each))
    faults = (fault for each in names if store.has(*each) for fault in _faults(store, each, size))
    return Verdict(len(ways), missing, tuple(faults))


def _faults(store: StoredFlow, names: tuple[str, str], size: tuple[int, int]) -> Iterator[str]:
    try:
        flow = store.read(*names, size=size)
    except (ValueError, OSError) as error:
        yield str(error)
        return
    unknown = flow.isnan().any(1).double().mean()
    if unknown > 0.5:
        yield f"flow {store.path(*names)}: {unknown:.0%} of its vectors are unknown; delete it and compute it again"
