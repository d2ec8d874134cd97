"""Sharing work out over the threads that torch may use."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch

T = TypeVar("T")


def over_threads(work: Callable[[range], T], pieces: int, least: int = 1) -> list[T]:
    """work(range of pieces), shared out evenly; the results in the order of the pieces.

    least: pieces that are worth a thread. `work` must let go of the interpreter's lock.
    """
    threads = max(1, min(torch.get_num_threads(), pieces // least))
    edges = [pieces * i // threads for i in range(threads + 1)]
    shares = [range(*pair) for pair in pairwise(edges)]
    if threads == 1:
        return [work(shares[0])]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, shares))
