"""Samplers of several data sets by shares: how many of the draws each one gets."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate
from math import floor

import numpy as np
import torch

from blda.data import seeding
from blda.data.draws import Draw
from blda.data.sampler import SAME_CLASS, DrawSampler, RareClassSampler, ReplacingSampler

BLOCK = 100
"""Draws whose members come in random order, so that members of two domains meet in all pairs."""
ROUNDS = 1000
"""Rounds that fit the probabilities of (class, member) to both of their sums."""


class Turns:
    """Member of every draw: any first n draws of whole blocks hold n * share draws of each, but for rounding.

    shares: part of each member, exact and with the sum 1. Member and position are functions of (seed, number).
    """

    def __init__(self, shares: Sequence[Fraction], seed: int) -> None:
        rest = [1 - sum(shares[:number]) for number in range(len(shares))]
        # Member m takes its part of the draws that the members before it leave.
        self._parts = [share / left if left else Fraction(0) for share, left in zip(shares, rest, strict=True)]
        self._seed = seed
        self._order: tuple[int, list[int]] = (-1, [])

    def __call__(self, number: int) -> tuple[int, int]:
        """Return the member of a draw, and how many draws of that member come before it in the sequence of turns."""
        block, place = divmod(number, BLOCK)
        if self._order[0] != block:
            generator = seeding.generator(self._seed, "turns", block)
            self._order = (block, torch.randperm(BLOCK, generator=generator).tolist())
        turn = block * BLOCK + self._order[1][place]
        for member, part in enumerate(self._parts[:-1]):
            before = floor(turn * part)
            if floor((turn + 1) * part) > before:
                return member, before
            turn -= before
        return len(self._parts) - 1, turn


class SharedSampler(DrawSampler):
    """Sampler that gives each member its share of the draws, and shows every frame of a member once in its epoch.

    lengths: frames of each member, one after the other. shares: see `Turns`. replacing: draw a member's frames with
    replacement, as `ReplacingSampler`. Other arguments: of `DrawSampler`.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        shares: Sequence[Fraction],
        batch: int,
        rank: int = 0,
        world: int = 1,
        seed: int = 0,
        start_step: int = 0,
        replacing: bool = False,
    ) -> None:
        super().__init__(sum(lengths), batch, rank, world, seed, start_step)
        self.starts, self.turns = _starts(lengths), Turns(shares, seed)
        kind = ReplacingSampler if replacing else DrawSampler
        seeds = [seeding.seed_of(seed, "member", member) for member in range(len(lengths))]
        self.members = [kind(length, 1, seed=own) for length, own in zip(lengths, seeds, strict=True)]

    def draw(self, number: int) -> Draw:
        """Return the draw of that number: a pure function of (seed, number)."""
        member, own = self.turns(number)
        return Draw(self.starts[member] + self.members[member].draw(own).index, number)

    def instead(self, draw: Draw, attempt: int) -> Draw:
        """Return another frame of the same member, see `DrawSampler.instead`."""
        member = bisect_right(self.starts, draw.index) - 1
        start = self.starts[member]
        other = self.members[member].instead(replace(draw, index=draw.index - start), attempt)
        return replace(other, index=start + other.index)


class SharedRareClassSampler(DrawSampler):
    """Rare-class sampling over the union of several data sets, by shares.

    A class is drawn with the probability that its frequency in the union gives it, as in `RareClassSampler`. Then a
    member is drawn among those that show the class, with probabilities under which each member has its share of all
    draws, as far as the classes that it shows allow; then a frame of the member that shows the class.

    union: rare-class sampling over the frames of all members, one after the other. lengths: frames of each member.
    shares: see `Turns`.
    """

    def __init__(self, union: RareClassSampler, lengths: Sequence[int], shares: Sequence[Fraction]) -> None:
        super().__init__(union.length, union.batch, union.rank, union.world, union.seed, union.start_step)
        self.union, self.starts = union, _starts(lengths)
        self.of_member = [self._by_member(frames) for frames in union.frames]
        shows = np.array([[bool(frames) for frames in members] for members in self.of_member])
        self.joint = torch.from_numpy(joint(union.probabilities.numpy(), np.array(shares, np.float64), shows))

    def draw(self, number: int) -> Draw:
        """Return the draw of that number, with the drawn class as `wanted`."""
        generator = seeding.generator(self.seed, "rare class", number)
        cell = int(torch.multinomial(self.joint.flatten(), 1, generator=generator))
        wanted, member = divmod(cell, len(self.starts))
        frames = self.of_member[wanted][member]
        return Draw(frames[int(torch.randint(len(frames), (), generator=generator))], number, wanted)

    def instead(self, draw: Draw, attempt: int) -> Draw:
        """Return another frame of the member that shows the wanted class; if none is left, see `RareClassSampler`."""
        member = bisect_right(self.starts, draw.index) - 1
        frames = self.of_member[draw.wanted][member] if draw.wanted is not None and attempt < SAME_CLASS else []
        if set(frames) - {draw.index}:
            return replace(draw, index=self._other(draw, attempt, frames))
        return self.union.instead(draw, attempt)

    def _by_member(self, frames: Sequence[int]) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in self.starts]
        for index in frames:
            found[bisect_right(self.starts, index) - 1].append(index)
        return found


def joint(classes: np.ndarray, shares: np.ndarray, shows: np.ndarray) -> np.ndarray:
    """Compute probabilities (C, M) of class and member by iterative proportional fitting.

    classes: (C,) probabilities of the classes, the sums over members, which hold exactly. shares: (M,), the sums over
    classes, which hold as far as `shows` allows. shows: (C, M) bool, where a probability may be above 0; every class
    of a probability above 0 needs one.
    """
    cells = shows * classes[:, None] * shares
    for _ in range(ROUNDS):
        cells = cells * _ratio(shares, cells.sum(0))
        cells = cells * _ratio(classes, cells.sum(1))[:, None]
    return cells


def _ratio(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    return np.divide(wanted, found, out=np.zeros_like(found), where=found > 0)


def _starts(lengths: Sequence[int]) -> tuple[int, ...]:
    return tuple(accumulate(lengths, initial=0))[:-1]
