"""Processes of a run that are killed: the others end with one line, and the run goes on from what was saved."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import tiny
from blda.build.run_folder import CLAIM
from blda.engine import checkpoint
from cli import tool

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "tests/support/tiny.yaml"
pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="this system does not list processes")


def _options(worlds: Path, run: Path, *more: str) -> list[str]:
    return [f"run={run}", *tiny.roots(worlds), "training.checkpoint_every=1", "method=source_only", *more]


@contextmanager
def _started(launcher: list[str], options: list[str], output: Path, **environment: str) -> Iterator[subprocess.Popen]:
    """A run in processes of its own, none of which is left behind."""
    command = [sys.executable, *launcher, "-m", "blda_video.commands.train", str(CONFIG), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    with output.open("w", encoding="utf-8") as file:
        job = subprocess.Popen(command, env=environment, stdout=file, stderr=file, start_new_session=True)
        try:
            yield job
        finally:
            if _group(job.pid):
                os.killpg(job.pid, signal.SIGKILL)


def _group(group: int) -> list[int]:
    """The processes of a group that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = path.read_text(encoding="utf-8").rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(of) == group and state not in "ZX":
            found.append(int(path.parent.name))
    return found


def _wait(until: Callable[[], object], seconds: float = 180) -> object:
    deadline = time.monotonic() + seconds
    while not (found := until()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found
    return found


def _continues(folder: Path, options: list[str]) -> None:
    step = checkpoint.step_of(checkpoint.latest(folder))
    tool("train", CONFIG, *options, f"training.steps={step + 1}", "training.workers=0", "--resume")
    assert checkpoint.step_of(checkpoint.latest(folder)) == step + 1
    assert "mIoU" in json.loads((folder / "result.json").read_text())


def test_the_first_of_two_processes_is_killed(worlds, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    launcher = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", port]
    options, folder = _options(worlds, tmp_path / "run", "training.steps=100000"), tmp_path / "run/source_only"
    with _started(launcher, options, tmp_path / "said", ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1") as job:
        _wait(lambda: checkpoint.latest(folder) or job.poll() is not None)
        assert job.poll() is None, (tmp_path / "said").read_text()
        os.kill(json.loads((folder / CLAIM).read_text())["process"], signal.SIGKILL)
        assert job.wait(timeout=120) != 0
        _wait(lambda: not _group(job.pid), 30)
    said = (tmp_path / "said").read_text()
    assert "error: another process of this run ended" in said
    assert "blda/engine" not in said  # no traceback of a rank
    _continues(folder, options)


def test_a_loader_process_is_killed(worlds, tmp_path):
    options = _options(worlds, tmp_path / "run", "training.steps=100000", "training.workers=1")
    folder = tmp_path / "run/source_only"
    with _started([], options, tmp_path / "said") as job:
        _wait(lambda: checkpoint.latest(folder) or job.poll() is not None)
        children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
        assert children, (tmp_path / "said").read_text()
        os.kill(int(children[0]), signal.SIGKILL)
        assert job.wait(timeout=120) == 1
    last = (tmp_path / "said").read_text().strip().splitlines()[-1]
    assert last.startswith("error: a loader process was ended from outside")
    assert "Traceback" not in (tmp_path / "said").read_text()
    _continues(folder, options)
