"""DataLoaders without randomness of their own: order and seeds come from the sampler."""

from __future__ import annotations

import signal
from types import FrameType

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from blda.data.file_handles import require_handles
from blda.data.sample import collate
from blda.data.sampler import DrawSampler

GRACE = 60
"""Seconds that a worker outlives a signal to stop, while the main process saves."""


def start_worker(_: int) -> None:
    """Limit a worker to one thread and let it ignore signals for the main process.

    OpenCV's own thread pool in each worker would fight over the cores. A signal to the whole group (Ctrl-C, a cluster's
    SIGTERM or SIGUSR1) must not take the data away from the current step: the main process decides, and a worker
    follows it or, after SIGTERM, ends after `GRACE` seconds.
    """
    cv2.setNumThreads(0)
    for name in ("SIGINT", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):  # Windows has only the first
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_later)


def _end_later(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, GRACE)


def _loader(dataset: Dataset, workers: int, pin: bool, **batches: object) -> DataLoader:
    require_handles(workers)
    return DataLoader(
        dataset,
        num_workers=workers,
        pin_memory=pin,
        collate_fn=collate,
        worker_init_fn=start_worker,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # its own, so that no number of the global generator is used up
        **batches,
    )


def endless_loader(dataset: Dataset, sampler: DrawSampler, workers: int = 0, pin: bool = False) -> DataLoader:
    """Build the loader of training batches, without end, from the sampler's first step on.

    Do not pass it to `accelerator.prepare`. workers: reading processes; 0 reads in this one. pin: use page-locked
    memory, for a GPU.
    """
    return _loader(dataset, workers, pin, batch_sampler=sampler)


def evaluation_loader(
    dataset: Dataset, workers: int = 0, pin: bool = False, rank: int = 0, world: int = 1, batch: int = 1
) -> DataLoader:
    """Build the loader of this rank's share of the data set, each frame on exactly one rank.

    Sizes may differ between frames unless `batch` is above 1.
    """
    return _loader(Subset(dataset, range(rank, len(dataset), world)), workers, pin, batch_size=batch)
