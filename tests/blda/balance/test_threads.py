"""Distribution of work over threads: completeness, concurrency, errors and forked processes."""

import multiprocessing
import threading

import numpy as np
import pytest
import torch
from torch import Tensor

from blda.balance.kernels.threads import over_threads


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def _times_done(pieces: int, grain: int) -> Tensor:
    times = torch.zeros(pieces, dtype=torch.int64)
    over_threads(lambda part: times[part.start : part.stop].add_(1), pieces, grain)
    return times


@pytest.mark.parametrize("pieces", [0, 1, 2, 17, 100])
@pytest.mark.parametrize("grain", [1, 3, 200])
def test_every_piece_is_done_once(pieces, grain, four_threads):
    assert torch.equal(_times_done(pieces, grain), torch.ones(pieces, dtype=torch.int64))


def test_several_threads_work_at_the_same_time(four_threads):
    meeting = threading.Barrier(2, timeout=20)
    over_threads(lambda part: meeting.wait(), 2)


def test_an_error_in_any_thread_reaches_the_caller(four_threads):
    def work(part: range) -> None:
        raise ArithmeticError(part.start)

    with pytest.raises(ArithmeticError):
        over_threads(work, 8)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
def test_a_forked_process_has_threads_of_its_own(four_threads):
    _times_done(50, 1)  # starts the parent's threads
    with multiprocessing.get_context("fork").Pool(1) as processes:
        done = processes.apply_async(_counted).get(timeout=60)
    assert done == 50


def _counted() -> int:
    counts = np.zeros(50, np.int64)

    def work(part: range) -> None:
        counts[part.start : part.stop] += 1

    over_threads(work, 50)
    return int(counts.sum())
