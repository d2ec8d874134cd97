"""Two machines, which are here two launchers that meet at the loopback address, train what one machine trains."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tiny
from blda.engine import checkpoint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "slurm_train.sh"

SRUN = """#!{python}
# Two nodes of one task on this machine; a signal reaches all processes of a task, its loaders too.
import os, signal, subprocess, sys
command = sys.argv[1:]
while command[0].startswith("--"):
    command.pop(0)
tasks = [
    subprocess.Popen(
        command,
        env={{**os.environ, "SLURM_PROCID": str(node), "SLURM_LOCALID": "0", "SLURM_NTASKS": "2"}},
        start_new_session=True,
    )
    for node in (0, 1)
]
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda number, _: [os.killpg(task.pid, number) for task in tasks if task.poll() is None])
sys.exit(max(task.wait() for task in tasks))
"""
SCONTROL = """#!/bin/sh
if [ "$1" = show ]; then echo 127.0.0.1; else echo "$@" >> "$REQUEUED"; fi
"""


def test_two_machines_train_what_two_processes_of_one_train(worlds, tmp_path):
    plain = ("optimizer.clip=null", "model.head.dropout=0.0", "blda.min_pixels=64")
    ends = []
    for machines in (2, 1):
        folder = tmp_path / f"machines_{machines}"
        config = tiny.moved(tiny.load(worlds, folder / "run", "video", *plain))
        ends += tiny.on_two_processes([config], folder, machines)
    apart, together = ends
    assert len(apart[0]["states"]) > 50
    for rank in (0, 1):
        tiny.assert_close(apart[rank]["states"], together[rank]["states"])
        assert apart[rank]["scores"] == pytest.approx(together[rank]["scores"], nan_ok=True, abs=0.5)
    assert tiny.differences(apart[0]["states"], apart[1]["states"]) == []


def _cluster(folder: Path) -> dict[str, str]:
    """An environment with SLURM's two commands, and the variables of a job of two nodes."""
    commands = folder / "bin"
    commands.mkdir()
    for name, text in (("srun", SRUN.format(python=sys.executable)), ("scontrol", SCONTROL)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHON": sys.executable,
        "ACCELERATE_USE_CPU": "true",
        "SLURM_JOB_ID": str(tiny.free_port(21000, 21999) - 20000),
        "SLURM_JOB_NODELIST": "node[0-1]",
        "REQUEUED": str(folder / "requeued"),
    }


def test_a_slurm_job_saves_before_its_time_is_over_and_continues(worlds, tmp_path):
    run, environment = tmp_path / "run" / "blda", _cluster(tmp_path)
    config, options = tiny.TESTS / "tiny_video.yaml", [f"run={run.parent}", *tiny.roots(worlds), "training.workers=1"]
    with (tmp_path / "output").open("w") as output:
        job = subprocess.Popen(
            ["bash", SCRIPT, config, *options, "training.steps=100000"], env=environment, stdout=output, stderr=output
        )
        try:
            deadline = time.monotonic() + 300
            while not (run / "metrics.jsonl").exists() and job.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
            job.send_signal(signal.SIGUSR1)
            code = job.wait(timeout=200)
        finally:
            job.kill()
    assert code == 0, (tmp_path / "output").read_text()
    assert (tmp_path / "requeued").read_text() == f"requeue {environment['SLURM_JOB_ID']}\n"
    step = checkpoint.step_of(checkpoint.latest(run))
    assert step >= 1

    command = ["bash", SCRIPT, config, *options, f"training.steps={step + 2}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert checkpoint.step_of(checkpoint.latest(run)) == step + 2
    assert json.loads((run / "result.json").read_text())["mIoU"] >= 0
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines() if "loss" in line]
    assert steps == sorted(set(steps))
    assert len((tmp_path / "requeued").read_text().splitlines()) == 1  # not again
