"""Profile work on a device: kernels by their own time, launches, and waits of the host."""

from __future__ import annotations

import statistics
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from runs import ROOT

Work = Callable[[], object]
PACKAGES = tuple(str(ROOT / name) for name in ("blda", "blda_video"))


def kernels(work: Work, device: torch.device, most: int = 12) -> dict[str, object]:
    """The device's own milliseconds during one run, kernels launched, and the longest of them by name.

    On a CPU, operators are counted instead of kernels.
    """
    work()
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as taken:
        work()
        synchronize(device)
    rows = [row for row in taken.key_averages() if _own(row, on_gpu) > 0 and _is_kernel(row, on_gpu)]
    rows.sort(key=lambda row: -_own(row, on_gpu))
    return {
        "ms": round(sum(_own(row, on_gpu) for row in rows) / 1e3, 3),
        "launches": sum(row.count for row in rows),
        "longest": {
            row.key[:100]: {"ms": round(_own(row, on_gpu) / 1e3, 3), "calls": row.count} for row in rows[:most]
        },
    }


def _own(row: object, on_gpu: bool) -> float:
    """Own time of a row, in microseconds."""
    return row.self_device_time_total if on_gpu else row.self_cpu_time_total


def _is_kernel(row: object, on_gpu: bool) -> bool:
    """Tell whether a row is a kernel; operators include the time of their kernels, which would count twice."""
    return not on_gpu or "CUDA" in str(row.device_type)


def queued(work: Work, device: torch.device, runs: int, repeats: int = 3) -> float:
    """Milliseconds per run when many follow each other without a wait, as in a training step."""
    times = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(runs):
            work()
        synchronize(device)
        times.append((time.perf_counter() - start) / runs)
    return round(1e3 * statistics.median(times), 4)


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def waits(work: Work, device: torch.device) -> dict[str, int]:
    """Count the waits of the host for the device during the work, by line of the packages; none on a CPU."""
    found: Counter[str] = Counter()

    def note(message: Warning | str, *_: object, **__: object) -> None:
        if "called a synchronizing" in str(message):
            found[_place()] += 1

    synchronize(device)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            if device.type == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    return dict(found)


def _place() -> str:
    """Line of the packages nearest to the call, else the nearest line of any file."""
    stack = [frame for frame in traceback.extract_stack() if Path(frame.filename) != Path(__file__)]
    ours = [frame for frame in stack if frame.filename.startswith(PACKAGES)]
    frame, called = (ours or stack)[-1], stack[-1]
    inside = f" ({Path(called.filename).name}:{called.lineno} {called.name})" if called is not frame else ""
    name = Path(frame.filename)
    where = name.relative_to(ROOT) if name.is_relative_to(ROOT) else name
    return f"{where}:{frame.lineno} {frame.line}{inside}"
