"""Train side by side on one device within the time limit: scores of every run, and means over its seeds.

All runs start together and take a few steps. These give the number of steps that fits, the same for all runs; if it is
too small, the last seeds are left out. A run that exceeds the time is stopped, scored as it is, and marked, because its
learning rate has not reached zero.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from blda import atomic
from blda.config.loading import load
from blda_video.config import VideoConfig
from blda_video.jobs.kinds import of_run
from blda_video.street_world.world_writer import ensure
from gpu.report import Report, Settings, settings, usable
from gpu.timed_training import GO, PACE, READY, SCORES, START
from runs import ROOT, spread

EVALUATION = 25.0
"""Seconds that are kept for scoring all runs at once and for writing."""
SHARED_MEMORY = 2**30
"""Bytes through which loaders hand their batches on; below that the runs load their data themselves."""
SHARE = 0.9
"""Of the time that is left, how much the steps may take by the pace that was measured."""


@dataclass
class Run:
    """A training in its own process, with its folder and its log."""

    name: str
    method: str
    seed: int
    command: list[str]
    folder: Path
    process: subprocess.Popen | None = field(default=None)

    def start(self, work: Path) -> None:
        """Start the process, with one thread, because there are as many runs as cores."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        with (self.folder / "log.txt").open("w") as log:
            self.process = subprocess.Popen(self.command, cwd=work, env=environment, stdout=log, stderr=log)

    @property
    def alive(self) -> bool:
        """Tell whether the process is running."""
        return self.process is not None and self.process.poll() is None

    def read(self, name: str) -> dict[str, Any] | None:
        """Read the file that the run has written under a name; None without."""
        path = self.folder / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def main() -> None:
    given = settings(__doc__)
    report = Report("training", given)
    if not usable(report):
        return
    listed = yaml.safe_load(given.runs.read_text(encoding="utf-8"))
    runs = planned(listed, given, report)
    make_worlds(listed, given)
    try:
        train(runs, listed["steps"], report)
    finally:
        for run in runs:
            if run.alive:
                run.process.kill()
        keep(runs, report)


def planned(listed: Mapping[str, Any], given: Settings, report: Report) -> list[Run]:
    """List all runs whose data exist, seed by seed."""
    runs = []
    for name, each in listed["trainings"].items():
        config = ROOT / "configs" / each["config"]
        overrides = [*each["overrides"], *listed["common"], *encoder(config, each["overrides"], given, report)]
        if shutil.disk_usage("/dev/shm").free < SHARED_MEMORY:
            overrides.append("training.workers=0")
        if "data/camvid" in _text(config) and not (given.work / "data" / "camvid").exists():
            report.skip(name, "no data/camvid; give its folder by BLDA_SHARED/data/camvid")
            continue
        for seed in each["seeds"]:
            for method in each["methods"]:
                folder = given.work / "trainings" / name / f"seed_{seed}" / method
                options = [*overrides, f"seed={seed}", f"method={method}", "compare=[]", f"run={folder}"]
                command = [sys.executable, "-m", "gpu.timed_training", str(config), *options]
                runs.append(Run(name, method, seed, command, folder))
    return sorted(runs, key=lambda run: run.seed)


def encoder(config: Path, overrides: Sequence[str], given: Settings, report: Report) -> list[str]:
    """Overrides for the weights of configs with EfficientNet-lite0; without weights, training is from scratch."""
    if "tf_efficientnet_lite0" not in _text(config) or any("model.encoder" in override for override in overrides):
        return []
    if given.weights is not None:
        return [f"model.encoder.weights={given.weights}"]
    report.skip(
        "pretrained encoder", "no weights of EfficientNet-lite0 (--weights PATH); the small encoder from scratch"
    )
    return ["model.encoder={name: small}", "self_training.burn_in=300", "optimizer.lr=2.0e-3"]


def _text(config: Path) -> str:
    """Text of a config file and its bases."""
    text = config.read_text(encoding="utf-8")
    bases = yaml.safe_load(text).get("base", [])
    return text + "".join(_text(config.parent / base) for base in ([bases] if isinstance(bases, str) else bases))


def make_worlds(listed: Mapping[str, Any], given: Settings) -> None:
    """Make the street worlds of all configs once, before the runs need them."""
    here = Path.cwd()
    os.chdir(given.work)
    try:
        for each in listed["trainings"].values():
            path = ROOT / "configs" / each["config"]
            kind, _ = of_run(path, each["overrides"])
            config = load(path, kind, each["overrides"])
            for world in config.worlds if isinstance(config, VideoConfig) else ():
                ensure(world, workers=os.cpu_count() or 1)
    finally:
        os.chdir(here)


def train(runs: list[Run], steps: Mapping[str, int], report: Report) -> None:
    """Start all runs, give them their number of steps, and stop unfinished ones in time."""
    for run in runs:
        run.start(report.given.work)
    wait(runs, READY, report, until=0.6 * report.left())
    for run in runs:
        if run.read(READY) is not None:
            atomic.write(run.folder / START, "{}")
        elif run.alive:
            run.process.kill()
    wait([run for run in runs if run.alive], PACE, report, until=report.left() / 2)
    going = [run for run in runs if run.read(PACE) is not None]
    count, going = fitting(going, steps, report.left() - EVALUATION)
    for run in runs:
        if run not in going and run.alive:
            run.process.kill()
            late = run.read(PACE) is None
            reason = "not ready in half of the time" if late else "with it, too few steps would have fitted for all"
            report.skip(f"{run.name} {run.method} {run.seed}", reason)
    report.put("steps", count)
    for run in going:
        atomic.write(run.folder / GO, json.dumps({"steps": count}))
    wait(going, SCORES, report, until=EVALUATION)
    for run in going:
        if run.alive and run.read(SCORES) is None:
            run.process.terminate()  # it scores what it has
    wait(going, SCORES, report, until=4.0)


def wait(runs: Sequence[Run], name: str, report: Report, until: float) -> None:
    """Wait until all runs have written a file or ended, or until only `until` seconds are left."""
    shown = time.monotonic()
    while report.left() > until and any(run.alive and run.read(name) is None for run in runs):
        time.sleep(0.2)
        if time.monotonic() - shown > 5:
            keep(runs, report)
            shown = time.monotonic()


def fitting(runs: list[Run], steps: Mapping[str, int], seconds: float) -> tuple[int, list[Run]]:
    """Choose the number of steps that fits into the time and the runs to train; fewer seeds make faster runs."""
    while runs:
        slowest = max(run.read(PACE)["seconds_per_step"] for run in runs)
        every = len({run.seed for run in runs})
        count = int(SHARE * seconds / slowest)
        if count >= steps["least"] or every == 1:
            return max(min(count, steps["most"]), 1), runs
        last = max(run.seed for run in runs)
        fewer = [run for run in runs if run.seed != last]
        seconds, runs = seconds * len(runs) / len(fewer), fewer
    return 1, []


def keep(runs: Sequence[Run], report: Report) -> None:
    """Record the results that the runs have written so far."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        scores, pace = run.read(SCORES), run.read(PACE)
        row = scores or {"steps_done": _last_step(run.folder)}
        log = run.folder / "log.txt"
        if scores is None and not run.alive and log.exists():
            row["log"] = log.read_text(errors="replace").splitlines()[-12:]
        found[f"{run.name}/{run.method}/{run.seed}"] = {"pace": pace, **row}
    report.results["runs"] = found
    report.put("means", means(runs))


def means(runs: Sequence[Run]) -> dict[str, Any]:
    """Mean and spread over the seeds of every number of the finished runs, and of the gain over source_only."""
    groups: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for run in runs:
        if (scores := run.read(SCORES)) is not None:
            groups.setdefault((run.name, run.method), {})[run.seed] = scores["scores"]
    found: dict[str, Any] = {}
    for (name, method), seeds in groups.items():
        keys = [key for key in next(iter(seeds.values())) if key in ("mIoU", "mAcc", "std") or key.startswith("iou/")]
        numbers = {key: [each[key] for each in seeds.values() if each.get(key) is not None] for key in keys}
        row: dict[str, Any] = {key: spread(values) for key, values in numbers.items() if values}
        base = groups.get((name, "source_only"), {})
        gains = [seeds[seed]["mIoU"] - base[seed]["mIoU"] for seed in seeds if seed in base]
        found[f"{name}/{method}"] = {**row, **({"gain_over_source_only": spread(gains)} if gains else {})}
    return found


def _last_step(folder: Path) -> int:
    log = folder / "metrics.jsonl"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return json.loads(lines[-1])["step"] if lines and lines[-1].endswith("}") else 0


if __name__ == "__main__":
    main()
