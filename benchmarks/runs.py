"""Shared code of the benchmarks: training runs by the project's own tools, summaries over seeds, circumstances."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import torch

from blda.code_version import code_version
from blda.engine.runtime import cores

ROOT = Path(__file__).parents[1]

Variants = Mapping[str, Sequence[str]]
"""Name -> overrides of the config."""


def comparison(doc: str, config: str, output: str, seeds: Sequence[int] = (0, 1, 2)) -> argparse.ArgumentParser:
    """Make the parser of a benchmark that trains variants of a config over seeds; use parse_intermixed_args."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / config)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(seeds))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("runs") / output)
    return parser


def trained(
    config: Path, variants: Variants, seeds: Sequence[int], output: Path, jobs: int = 1
) -> dict[str, list[Path]]:
    """Train every variant and seed; returns the run folders OUTPUT/VARIANT/seed_N/METHOD.

    Finished runs are not repeated, stopped ones continue. jobs: runs at a time; they share the CPU cores of this
    process.
    """
    shares: SimpleQueue[set[int]] = SimpleQueue()
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    for job in range(jobs):
        shares.put(set(mine[job::jobs]))

    def train(name: str, seed: int) -> Path:
        share = shares.get()
        try:
            return _train(config, [*variants[name], f"seed={seed}"], output / name / f"seed_{seed}", share)
        finally:
            shares.put(share)

    # Seed by seed, so that an interrupted comparison has whole columns.
    order = [(name, seed) for seed in seeds for name in variants]
    with ThreadPoolExecutor(jobs) as pool:
        folders = dict(zip(order, pool.map(lambda each: train(*each), order), strict=True))
    return {name: [folders[name, seed] for seed in seeds] for name in variants}


def _train(config: Path, options: Sequence[str], run: Path, share: set[int]) -> Path:
    command = ["accelerate", "launch", "-m", "blda_video.commands.train", str(config), *options]
    command += ["compare=[]", f"run={run}", "--resume"]
    process = subprocess.Popen(command, stdout=sys.stderr)
    if share:
        os.sched_setaffinity(process.pid, share)
    if process.wait():
        sys.exit(f"error: failed: {' '.join(command)}")
    method = next(option for option in options if option.startswith("method="))
    return run / method.removeprefix("method=")


def result(folder: Path) -> dict[str, float]:
    """The last scores of a finished run."""
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def summary(runs: Sequence[Mapping[str, float | str | None]]) -> dict[str, object]:
    """Protocol, and mean, lowest, highest and standard deviation of every number over the seeds."""
    numbers = [key for key, value in runs[0].items() if not isinstance(value, str)]
    keys = [key for key in numbers if "/" not in key or key.startswith(("iou/", "acc/"))]
    values = {key: [run[key] for run in runs if run.get(key) is not None] for key in keys}
    return {"protocol": runs[0].get("protocol"), **{key: spread(each) for key, each in values.items() if each}}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, lowest, highest and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else math.nan
    figures = {"mean": statistics.mean(values), "min": min(values), "max": max(values), "deviation": deviation}
    return {name: round(figure, 2) for name, figure in figures.items() if not math.isnan(figure)}


def circumstances(device: str | None = None) -> dict[str, object]:
    """Describe hardware, torch and commit of a measurement. device: cpu or cuda, by default the one that training
    takes.
    """
    on_gpu = torch.cuda.is_available() if device is None else device != "cpu"
    name = torch.cuda.get_device_name() if on_gpu else f"{cores()} CPU cores, {platform.machine()}"
    return {"hardware": name, "torch": torch.__version__, "commit": code_version().get("commit", "")}
