"""Distribution of work over the threads that torch may use."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def over_threads(work: Callable[[range], object], pieces: int, grain: int = 1) -> None:
    """Call `work` on ranges of pieces until all are done; each free thread takes the next range.

    work: function of a range of pieces. It must release the interpreter's lock, and pieces must not depend on one
        another, because their order is undefined.
    pieces: number of pieces.
    grain: number of pieces in a range.

    The caller's thread works too, so the call does not wait for a core that is busy with torch's spinning threads.
    """
    starts = iter(range(0, pieces, grain))

    def share() -> None:
        for start in starts:
            work(range(start, min(start + grain, pieces)))

    helpers = min(torch.get_num_threads(), math.ceil(pieces / grain)) - 1
    helping = [_pool(os.getpid()).submit(share) for _ in range(helpers)]
    share()
    for helper in helping:
        # A thread that has not started yet has nothing left to do.
        if not helper.cancel():
            helper.result()


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """Return the thread pool of a process, which is kept because starting threads takes longer than their work.

    process: process number; a forked process gets a pool of its own, as it has none of its parent's threads.
    """
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="blda")
