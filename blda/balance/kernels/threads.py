"""Sharing work out over the threads that torch may use."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def over_threads(work: Callable[[range], object], pieces: int, grain: int = 1) -> None:
    """work(range of pieces), `grain` pieces at a time, until all are done; whichever thread is free takes the next.

    The caller's thread works too, so that a core that is busy otherwise (with torch's own threads, which wait for
    more by spinning) delays nobody. No piece may depend on another, for their order is open; `work` must let go of
    the interpreter's lock.
    """
    starts = iter(range(0, pieces, grain))

    def share() -> None:
        for start in starts:
            work(range(start, min(start + grain, pieces)))

    helpers = min(torch.get_num_threads(), math.ceil(pieces / grain)) - 1
    helping = [_pool(os.getpid()).submit(share) for _ in range(helpers)]
    share()
    for helper in helping:
        # One that never came to start has nothing left to do.
        if not helper.cancel():
            helper.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Threads of a process, kept: to start them anew takes longer than their work. A fork has none of its parent's."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="blda")
