"""Training data set that replaces frames whose files cannot be used."""

from __future__ import annotations

import logging
import multiprocessing

from torch.utils.data import Dataset

from blda.data.draws import Draw
from blda.data.sample import Sample
from blda.data.sampler import DrawSampler

ATTEMPTS = 10
"""Frames that are tried for one draw."""

_LOG = logging.getLogger(__name__)


class SkipUnreadable(Dataset):
    """Training samples of `dataset`; a draw whose files cannot be used gets another frame from `sampler`.

    The replacement is a function of (seed, draw, attempt), so a run repeats itself as long as its files do, and draws
    of usable frames are the same as without this class. Each replaced frame is reported once over all loader processes,
    with the reason.

    dataset: takes draws and has a `reader` with the frames.
    Raises ValueError with the last frame's message when `ATTEMPTS` frames in a row cannot be used.
    """

    def __init__(self, dataset: Dataset[Sample], sampler: DrawSampler) -> None:
        self.dataset, self.sampler = dataset, sampler
        # How often each frame was replaced; the one memory that all loader processes share, with its lock.
        self._replaced = multiprocessing.Array("q", len(dataset))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw) -> Sample:
        """Return the sample (B = 1) of a draw: `draw` is the number asked for, `name` the frame that was read."""
        for attempt in range(ATTEMPTS):
            try:
                return self.dataset[draw]
            except (ValueError, OSError) as error:
                self._report(draw.index, error)
                draw, last = self.sampler.instead(draw, attempt), error
        raise ValueError(f"{ATTEMPTS} frames in a row cannot be used; the last: {last}") from last

    def replaced(self) -> int:
        """Number of frames replaced so far by all loader processes; workers read ahead of the training."""
        return sum(self._replaced[:])

    def _report(self, index: int, error: Exception) -> None:
        with self._replaced.get_lock():
            self._replaced[index] += 1
            first = self._replaced[index] == 1
        if first:
            name = self.dataset.reader.frames[index].name
            _LOG.warning("frame %s is left out, another takes its place: %s", name, error)
