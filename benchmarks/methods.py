"""Train methods with several seeds from one config and compare them; prints JSON.

    python benchmarks/methods.py configs/demo.yaml --seeds 0 1 2 [--methods source_only self_training blda] \
        [--output runs/methods] [key=value ...]

Each run is `accelerate launch tools/train_video.py` (or train_image.py for a config without `offsets`) in
OUTPUT/seed_N/METHOD; runs that are finished there are not repeated, stopped ones continue.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import torch

from blda.configfile import has_key

ROOT = Path(__file__).parents[1]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("config", type=Path)
    arguments.add_argument("overrides", nargs="*", metavar="key=value")
    arguments.add_argument("--methods", nargs="+", default=["source_only", "self_training", "blda"])
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments.add_argument("--output", type=Path, default=Path("runs/methods"))
    given = arguments.parse_intermixed_args()
    scores = {
        method: [finished(given.config, given.overrides, method, seed, given.output) for seed in given.seeds]
        for method in given.methods
    }
    print(json.dumps({**circumstances(given), "scores": {m: summary(runs) for m, runs in scores.items()}}, indent=1))


def finished(config: Path, overrides: list[str], method: str, seed: int, output: Path) -> dict[str, float]:
    """The last scores of one run, trained if need be."""
    run = output / f"seed_{seed}"
    tool = "train_video" if has_key(config, "offsets") else "train_image"
    options = [*overrides, f"method={method}", "compare=[]", f"seed={seed}", f"run={run}", "--resume"]
    command = ["accelerate", "launch", str(ROOT / "tools" / f"{tool}.py"), str(config), *options]
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
        sys.exit(f"error: failed: {' '.join(command)}")
    return json.loads((run / method / "result.json").read_text())


def summary(runs: list[dict[str, float]]) -> dict[str, object]:
    """Mean and range over the seeds of every number."""
    keys = [key for key in runs[0] if "/" not in key or key.startswith(("iou/", "acc/"))]
    values = {key: [run[key] for run in runs if not math.isnan(run[key])] for key in keys}
    return {
        key: {"mean": round(statistics.mean(each), 2), "min": round(min(each), 2), "max": round(max(each), 2)}
        for key, each in values.items()
        if each
    }


def circumstances(given: argparse.Namespace) -> dict[str, object]:
    """What the numbers hold for."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    return {
        "config": str(given.config),
        "overrides": given.overrides,
        "seeds": given.seeds,
        "commit": commit.stdout.strip(),
        "torch": torch.__version__,
        "hardware": f"{device}, {platform.machine()}",
    }


if __name__ == "__main__":
    main()
