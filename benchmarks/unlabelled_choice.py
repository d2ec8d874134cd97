"""Measure how well checkpoints are chosen without target labels (blda rank); prints JSON.

    python benchmarks/unlabelled_choice.py RUN [RUN ...] [REPORT.json ...] [--images 30] [key=value ...]

REPORT.json: what this benchmark printed of other runs. RUN: folders of methods, with several checkpoints and the mIoU
measured at each of them in metrics.jsonl, such as of

    blda train ablation method=blda seed=0 run=runs/ranking/seed_0 training.checkpoint_every=100 training.keep=20 \
        evaluation.every=100

For the score of blda rank, each criterion, and the number of steps: `within`, the rank correlation with the measured
mIoU over the checkpoints of each run, and `lost`, the points of mIoU between the run's best checkpoint and the one that
is chosen (for `step`, the last one); `across` and `lost_across`, the same over the checkpoints of all runs. Measured
scores are used for comparing only.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from blda.balance.bias_agreement import spearman
from blda.calibration.unlabelled_criteria import CRITERIA, mean_ranks
from blda.engine import checkpoint
from blda_video.jobs.checkpoint_ranking import rank
from runs import circumstances

MEASURED = "target/mIoU"
Row = dict[str, Any]
"""A checkpoint: its path, step, criteria (None if unknown) and measured mIoU."""


def measured(path: Path) -> float:
    """Read the mIoU of a checkpoint's step from its run's log; ValueError if it was not evaluated there."""
    lines = map(json.loads, (path.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    found = [line[MEASURED] for line in lines if line["step"] == checkpoint.step_of(path) and MEASURED in line]
    if not found:
        raise ValueError(f"{path.parent}/metrics.jsonl has no {MEASURED} at step {checkpoint.step_of(path)}")
    return found[-1]


def rows_of(folders: Sequence[Path], overrides: Sequence[str], images: int) -> list[Row]:
    """Judge the checkpoints of some runs; see `Row`."""
    ranked = rank(folders, overrides, images) if folders else []
    return [{**each.numbers(), "step": checkpoint.step_of(each.path), MEASURED: measured(each.path)} for each in ranked]


def judged(name: str, rows: Sequence[Row]) -> list[float] | None:
    """Return the values of a criterion, of the score among these checkpoints, or the steps; None if one is unknown."""
    if name == "score":
        return mean_ranks([{key: math.nan if row[key] is None else row[key] for key in CRITERIA} for row in rows])
    if name == "step":
        return [float(row["step"]) for row in rows]
    return None if any(row[name] is None for row in rows) else [CRITERIA[name] * row[name] for row in rows]


def compared(name: str, rows: Sequence[Row]) -> tuple[float, float] | None:
    """Return the rank correlation with the measured mIoU, and the points lost against the best."""
    values = judged(name, rows)
    if values is None:
        return None
    true = [row[MEASURED] for row in rows]
    # Of equals the later one, as in `rank`.
    chosen = max(range(len(rows)), key=lambda i: (values[i], rows[i]["step"]))
    return spearman(torch.tensor(values).double(), torch.tensor(true).double()), max(true) - true[chosen]


def main() -> None:
    """Read the arguments, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs, earlier reports, key=value")
    parser.add_argument("--images", type=int, default=30, help="target images that each checkpoint predicts")
    given = parser.parse_intermixed_args()
    folders = [Path(each) for each in given.runs if Path(each).is_dir()]
    reports = [Path(each) for each in given.runs if Path(each).is_file()]
    overrides = [each for each in given.runs if Path(each) not in (*folders, *reports)]
    rows = [row for path in reports for row in json.loads(path.read_text(encoding="utf-8"))["checkpoints"]]
    rows = sorted([*rows, *rows_of(folders, overrides, given.images)], key=lambda row: row["checkpoint"])
    by_run: dict[str, list[Row]] = {}
    for row in rows:
        by_run.setdefault(str(Path(row["checkpoint"]).parent), []).append(row)
    report = {}
    for name in ("score", *CRITERIA, "step"):
        runs = {run: compared(name, own) for run, own in by_run.items()}
        known, everything = {run: found for run, found in runs.items() if found}, compared(name, rows)
        report[name] = {
            "within": {run: round(found[0], 2) for run, found in known.items()},
            "lost": {run: round(found[1], 2) for run, found in known.items()},
            "across": everything and round(everything[0], 3),
            "lost_across": everything and round(everything[1], 2),
        }
    print(
        json.dumps({"images": given.images, "chosen_by": report, "checkpoints": rows, **circumstances("cpu")}, indent=1)
    )


if __name__ == "__main__":
    main()
