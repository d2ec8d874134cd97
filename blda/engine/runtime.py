"""Process of a run: threads, signals, random seeds, and data on the way from the device."""

from __future__ import annotations

import os
import random
import signal
from datetime import timedelta
from types import FrameType

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs

from blda.data import seeding
from blda.engine import launcher


def start(precision: str | None) -> Accelerator:
    """Build the accelerator of this process; a precision of None is what the launcher says, or float32.

    `accelerate launch` sets OMP_NUM_THREADS=1; a single process on the CPU takes all its cores back. Without a
    launcher the number is the user's wish, and stays.
    """
    launcher.require_whole_networks()
    # One process makes what all need (class statistics, a street world); the others wait for it longer than usual.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=2))
    precision = launcher.agreed_precision(None) if precision is None else precision
    launcher.require_precision(precision, torch.cuda.is_available())
    if AcceleratorState._shared_state.get("_mixed_precision", precision) != precision:
        # One process, such as a notebook's, may make one run after the other, each in its own precision.
        AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=precision, kwargs_handlers=[patience])
    wished = "OMP_NUM_THREADS" in os.environ and launcher.process() is None
    if accelerator.device.type == "cpu" and accelerator.num_processes == 1 and not wished:
        torch.set_num_threads(cores())
    launcher.require_processes(accelerator.num_processes)
    return accelerator


def set_deterministic(wanted: bool) -> None:
    """Switch sums on a GPU to a fixed order, so that a run repeats itself bit for bit, or back.

    Call it before the first product on the GPU. PyTorch warns of an operation that has no such order.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(wanted, warn_only=True)
    torch.backends.cudnn.deterministic = wanted


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def seed_step(seed: int, rank: int, step: int) -> None:
    """Seed the global generators by seed, rank and step, so that a step's random numbers depend on nothing else.

    torch's generators (dropout, drop-path) differ between processes; Python's (HRDA's window) is the same in all.
    """
    torch.manual_seed(seeding.seed_of(seed, "step", rank, step))
    random.seed(seeding.seed_of(seed, "step", step))


class AsyncScalar:
    """Small tensor that is copied to the host. Reading waits for this copy, not for later work of the device."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._copy = tensor.to("cpu", non_blocking=True)
        self._done = torch.cuda.Event() if tensor.is_cuda else None
        if self._done is not None:
            self._done.record()

    def tolist(self) -> list[float]:
        """Return the tensor's numbers."""
        if self._done is not None:
            self._done.synchronize()
        return self._copy.tolist()


class StopSignal:
    """Recorder of stop requests, so that the current step is finished and saved first.

    It records SIGTERM, SIGINT, the SIGHUP of a closed terminal, SIGUSR1, by which clusters announce the end of a job's
    time, and the loss of the launcher. A second SIGINT, from an impatient user, ends at once; launchers and clusters
    may both send a SIGTERM. A SIGHUP that is ignored already, under nohup, stays ignored.
    """

    def __init__(self) -> None:
        self._signal: str | None = None
        self._previous: dict[int, signal.Handlers] = {}
        self._launcher = launcher.process()

    @property
    def received(self) -> str | None:
        """Name of the signal or event that asked to stop; None if there was none."""
        if self._signal is None and self._launcher not in (None, os.getppid()):
            return "the loss of its launcher"
        return self._signal

    def __enter__(self) -> StopSignal:
        hangup, user = (getattr(signal, name, None) for name in ("SIGHUP", "SIGUSR1"))  # Windows has none
        for number in (signal.SIGTERM, signal.SIGINT, hangup, user):
            if number is not None and not (number == hangup and signal.getsignal(number) == signal.SIG_IGN):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self._signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = signal.Signals(number).name
