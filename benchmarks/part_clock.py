"""Measure time and memory of named, possibly nested parts of some work, on a CPU or in a GPU's queue."""

from __future__ import annotations

import ctypes
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from unittest.mock import patch

import torch

from blda_cost import resident

_MMAP_THRESHOLD = -3
"""glibc's M_MMAP_THRESHOLD: larger pieces of memory are the system's own."""

Mark = float | torch.cuda.Event
Name = str | Callable[[], str]
"""Of a part; a function is asked when the part begins."""


@dataclass
class Span:
    """One run of a part, and the part that called it."""

    name: str
    parent: Span | None
    start: Mark
    end: Mark | None = None


class PartClock:
    """Clock of spans between marks: the wall clock on a CPU, queued events on a GPU, awaited only in `taken`.

    peaks: peak memory in megabytes while a part itself ran, recorded within `remembering`.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.spans: list[Span] = []
        self.peaks: dict[str, float] = defaultdict(float)
        self._open: list[Span] = []
        self._remembers = False

    @contextmanager
    def part(self, name: Name) -> Iterator[None]:
        """Context manager that times the named part."""
        self._credit()
        parent = self._open[-1] if self._open else None
        span = Span(name if isinstance(name, str) else name(), parent, self._mark())
        self.spans.append(span)
        self._open.append(span)
        try:
            yield
        finally:
            span.end = self._mark()
            self._credit()
            self._open.pop()

    def iterated(self, name: str, items: Iterable) -> Iterator:
        """Yield the items; waiting for each is timed as a part."""
        iterator = iter(items)
        while True:
            with self.part(name):
                item = next(iterator)
            yield item

    def rename(self, old: str, new: str) -> None:
        """Rename the spans recorded so far."""
        for span in self.spans:
            span.name = new if span.name == old else span.name
        if old in self.peaks:
            self.peaks[new] = max(self.peaks.pop(old), self.peaks.get(new, 0.0))

    def taken(self) -> dict[str, float]:
        """Milliseconds of every part since the last call, without those of the parts that they called."""
        if self.on_gpu:
            torch.cuda.synchronize()
        found: dict[str, float] = defaultdict(float)
        for span in self.spans:
            took = span.start.elapsed_time(span.end) if self.on_gpu else 1e3 * (span.end - span.start)
            found[span.name] += took
            if span.parent is not None:
                found[span.parent.name] -= took
        self.spans.clear()
        return dict(found)

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Context manager that records memory; on a CPU this takes so long that the times are meaningless."""
        self._remembers = self.on_gpu or _returns_memory()
        self._forget()
        try:
            with self.part("rest"):
                yield
        finally:
            self._remembers = False
            self.spans.clear()

    def _mark(self) -> Mark:
        if not self.on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _credit(self) -> None:
        """Assign the peak memory since the last mark to the running part."""
        if not self._remembers:
            return
        if self._open:
            name = self._open[-1].name
            held = torch.cuda.max_memory_allocated() / 2**20 if self.on_gpu else resident("VmHWM")
            self.peaks[name] = max(self.peaks[name], held)
        self._forget()

    def _forget(self) -> None:
        if self._remembers and self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        elif self._remembers:
            Path("/proc/self/clear_refs").write_text("5")


class Watched:
    """Wrapper of a callable that times its calls as a part; all other attributes are those of the callable."""

    def __init__(self, called: Callable, clock: PartClock, name: Name) -> None:
        self._called, self._clock, self._name = called, clock, name

    def __call__(self, *arguments: object, **keywords: object) -> object:
        with self._clock.part(self._name):
            return self._called(*arguments, **keywords)

    def __getattr__(self, name: str) -> object:
        return getattr(self._called, name)

    def __get__(self, owner: object, kind: type) -> Callable:
        """Bind the wrapper as a method."""
        return self if owner is None else Watched(partial(self._called, owner), self._clock, self._name)


def watched(target: str | tuple[object, str], clock: PartClock, name: Name) -> patch:
    """Context manager that times a function, given by its dotted name, or an object's attribute."""
    if isinstance(target, str):
        return patch(target, Watched(resolve_name(target), clock, name))
    return patch.object(*target, Watched(getattr(*target), clock, name))


def _returns_memory() -> bool:
    """Make the process return freed memory at once, so that its memory is the memory in use; glibc on Linux."""
    libc = ctypes.CDLL(None) if Path("/proc/self/clear_refs").exists() else None
    if not hasattr(libc, "mallopt"):
        return False
    libc.mallopt(_MMAP_THRESHOLD, 2**16)
    libc.malloc_trim(0)
    return True
