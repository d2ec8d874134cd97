"""Samplers of frames: endless, seeded, and the same for any number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import Sampler

from blda.data import seeding
from blda.data.draws import Draw

SAME_CLASS = 5
"""Attempts to replace a frame by one that shows the same wanted class."""


class DrawSampler(Sampler):
    """Endless batches of draws for one process.

    Micro-step s of the whole run takes the draws numbered s*G ... (s+1)*G - 1, G = batch * world; this rank takes its
    contiguous slice. So 2 processes of batch 1 get the same draws as 1 process of batch 2, and starting at `start_step`
    equals skipping that many batches. Each epoch visits every frame once in an order that is a function of (seed,
    epoch).

    length: frames in the data set. batch: samples per process and micro-step.
    """

    def __init__(
        self, length: int, batch: int, rank: int = 0, world: int = 1, seed: int = 0, start_step: int = 0
    ) -> None:
        if length < 1 or batch < 1 or not 0 <= rank < world:
            raise ValueError(f"length {length} and batch {batch} must be at least 1, rank {rank} below world {world}")
        self.length = length
        self.batch = batch
        self.rank = rank
        self.world = world
        self.seed = seed
        self.start_step = start_step
        self._order: tuple[int, list[int]] = (-1, [])

    def __iter__(self) -> Iterator[list[Draw]]:
        step = self.start_step
        while True:
            first = (step * self.world + self.rank) * self.batch
            yield [self.draw(number) for number in range(first, first + self.batch)]
            step += 1

    def draw(self, number: int) -> Draw:
        """Return the draw of that number: a pure function of (seed, number)."""
        epoch, position = divmod(number, self.length)
        if self._order[0] != epoch:
            generator = seeding.generator(self.seed, "epoch", epoch)
            self._order = (epoch, torch.randperm(self.length, generator=generator).tolist())
        return Draw(self._order[1][position], number)

    def instead(self, draw: Draw, attempt: int) -> Draw:
        """Return another frame for a draw whose frame cannot be used: a pure function of (seed, draw, attempt).

        The draw number stays, so that no other draw changes. The same frame is returned only when there is no other.
        """
        return replace(draw, index=self._other(draw, attempt, range(self.length)))

    def _other(self, draw: Draw, attempt: int, frames: Sequence[int]) -> int:
        others = [index for index in frames if index != draw.index] or [draw.index]
        generator = seeding.generator(self.seed, "instead", draw.number, attempt)
        return others[int(torch.randint(len(others), (), generator=generator))]


class ReplacingSampler(DrawSampler):
    """Sampler with replacement: every frame has the same probability in each draw, as for the published target."""

    def draw(self, number: int) -> Draw:
        """Return the draw of that number: a pure function of (seed, number)."""
        generator = seeding.generator(self.seed, "frame", number)
        return Draw(int(torch.randint(self.length, (), generator=generator)), number)


class RareClassSampler(DrawSampler):
    """Sampler that draws a class with p(c) ~ exp((1 - f_c) / T), then a frame that shows it (METHOD section 6;
    DAFormer).

    pixels: (frames, classes) counts from `class_statistics.count_classes`; f_c is the class's share of all of them.
    temperature: T; small values favour rare classes. min_pixels: a frame shows a class from this many pixels on; with
    `more`, as published, only with more than that.
    Classes that no frame shows are left out; ValueError when no class remains.
    """

    def __init__(
        self,
        pixels: np.ndarray,
        batch: int,
        rank: int = 0,
        world: int = 1,
        seed: int = 0,
        start_step: int = 0,
        temperature: float = 0.01,
        min_pixels: int = 3000,
        more: bool = False,
    ) -> None:
        super().__init__(len(pixels), batch, rank, world, seed, start_step)
        shows = np.asarray(pixels) >= max(min_pixels + more, 1)
        self.frames = [np.flatnonzero(column).tolist() for column in shows.T]
        if not shows.any():
            raise ValueError(
                f"no frame shows {min_pixels} pixels of any class; lower min_pixels of rare-class sampling"
            )
        total = np.asarray(pixels, dtype=np.float64).sum(axis=0)
        self.probabilities = _favour_rare(total / total.sum(), shows.any(axis=0), temperature)

    def draw(self, number: int) -> Draw:
        """Return the draw of that number, with the drawn class as `wanted`."""
        generator = seeding.generator(self.seed, "rare class", number)
        wanted = int(torch.multinomial(self.probabilities, 1, generator=generator))
        frames = self.frames[wanted]
        return Draw(frames[int(torch.randint(len(frames), (), generator=generator))], number, wanted)

    def instead(self, draw: Draw, attempt: int) -> Draw:
        """Return another frame that shows the wanted class; if none is left or after a few attempts, any frame."""
        frames = self.frames[draw.wanted] if draw.wanted is not None and attempt < SAME_CLASS else []
        if set(frames) - {draw.index}:
            return replace(draw, index=self._other(draw, attempt, frames))
        return replace(super().instead(draw, attempt), wanted=None)


def _favour_rare(share: np.ndarray, shown: np.ndarray, temperature: float) -> torch.Tensor:
    """Compute softmax((1 - share) / temperature) over the shown classes: (C,) float64, 0 for the others."""
    scores = torch.from_numpy((1 - share) / temperature).masked_fill(torch.from_numpy(~shown), -torch.inf)
    return torch.softmax(scores, dim=0)
