"""JSON report of one part, rewritten after every measurement, so that an interrupted run keeps its results."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from blda import atomic
from runs import circumstances

DEVICE_LOST = 75
"""Exit code of a part whose process can no longer use the device; run again, it goes on behind the measurement."""
FATAL = ("CUDA error", "device-side assert", "illegal memory access", "unspecified launch failure")


@dataclass(frozen=True)
class Settings:
    """Settings of a part.

    output: folder of the reports. until: deadline of the part, in seconds of the clock.

    rehearse: toy sizes on the CPU. work: folder for worlds and runs, in which data/camvid is the real data if there is
    any. weights: file of EfficientNet-lite0's weights, None without. runs: file with the trainings.
    """

    output: Path
    until: float
    rehearse: bool
    work: Path
    weights: Path | None
    runs: Path

    @property
    def seconds(self) -> float:
        """Seconds left until the deadline."""
        return self.until - time.time()

    @property
    def device(self) -> torch.device:
        """Device that is measured."""
        return torch.device("cpu" if self.rehearse else "cuda")


def settings(doc: str | None, arguments: Sequence[str] | None = None) -> Settings:
    """The settings of a part's command line."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--until", type=float, required=True)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--runs", type=Path, required=True)
    return Settings(**vars(parser.parse_args(arguments)))


class Report:
    """Results of a part by name, its errors, and the measurements left out with the reason.

    An existing report is continued: its results are not measured again.
    """

    def __init__(self, part: str, given: Settings) -> None:
        self.path, self.given, self._lock = given.output / f"{part}.json", given, threading.RLock()
        kept = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}
        self.results: dict[str, object] = kept.get("results", {})
        self.skipped: dict[str, str] = kept.get("skipped", {})
        self.failed: dict[str, list[str]] = kept.get("failed", {})
        self.seconds: dict[str, float] = kept.get("seconds", {})
        self.about = {"part": part, "rehearsal": given.rehearse, **circumstances(given.device.type)}
        self.save()

    def left(self) -> float:
        """Seconds until the deadline of the part."""
        return self.given.seconds

    def put(self, name: str, value: object) -> None:
        """Keep a result; threads may do so side by side."""
        with self._lock:
            self.results[name] = value
            self.save()

    def drop(self, name: str) -> None:
        """Remove a provisional result."""
        with self._lock:
            self.results.pop(name, None)

    def skip(self, name: str, reason: str) -> None:
        """Record in one line a measurement that is left out, and the reason."""
        with self._lock:
            self.skipped[name] = reason
            self.save()
        print(f"{name}: skipped: {reason}", flush=True)

    def measure(self, name: str, work: Callable[[], object], needs: float = 0.0) -> None:
        """Record the result of `work`, or its error; skip it when fewer than `needs` seconds are left.

        Ends the process with DEVICE_LOST when an error makes the GPU unusable for it.
        """
        if name in self.results or name in self.failed:
            return
        if self.left() < needs:
            self.skip(name, f"{self.left():.0f} s left, it needs {needs:.0f}")
            return
        start = time.monotonic()
        try:
            value = work()
        except torch.cuda.OutOfMemoryError as error:
            self.skip(name, f"the GPU's memory is too small: {first_line(error)}")
            torch.cuda.empty_cache()
        except Exception as error:
            self.fail(name, error)
        else:
            with self._lock:
                self.seconds[name] = round(time.monotonic() - start, 1)
                self.put(name, value)
            print(f"{name}: {self.seconds[name]} s", flush=True)

    def fail(self, name: str, error: Exception) -> None:
        """Record an error; ends the process with DEVICE_LOST when it makes the GPU unusable."""
        with self._lock:
            self.failed[name] = "".join(traceback.format_exception(error)).splitlines()[-30:]
            self.save()
        print(f"{name}: failed: {first_line(error)}", flush=True)
        if any(mark in str(error) for mark in FATAL):
            sys.stdout.flush()
            os._exit(DEVICE_LOST)

    def save(self) -> None:
        """Write all results so far."""
        content = {"results": self.results, "skipped": self.skipped, "failed": self.failed, "seconds": self.seconds}
        atomic.write(self.path, json.dumps(plain({**self.about, **content}), indent=1))


def plain(value: object) -> object:
    """Convert a value for JSON: infinite and NaN numbers become null, paths and other objects text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)


def first_line(error: Exception) -> str:
    """First line of an error's text, or its type when it has no text."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def usable(report: Report) -> bool:
    """Tell whether the device can be used; otherwise the reason is put in the report."""
    if report.given.rehearse:
        return True
    try:
        torch.zeros(1, device="cuda").add_(1).cpu()
    except Exception as error:  # no GPU, an old driver, a device that others hold
        report.skip("all", f"no usable GPU: {first_line(error)}")
        return False
    return True
