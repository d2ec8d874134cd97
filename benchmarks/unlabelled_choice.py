"""Measure how well checkpoints are chosen without target labels (blda rank); prints JSON.

    python benchmarks/unlabelled_choice.py RUN [RUN ...] [--images 30] [key=value ...]

RUN: folders of methods, with several checkpoints and the mIoU measured at each of them in metrics.jsonl, such as of

    blda train ablation method=blda seed=0 run=runs/ranking/seed_0 training.checkpoint_every=100 training.keep=20 \
        evaluation.every=100

For the score of blda rank, each criterion, and the number of steps: `within`, the rank correlation with the measured
mIoU over the checkpoints of each run, and `lost`, the points of mIoU between the run's best checkpoint and the one that
is chosen (for `steps`, the last one); `across` and `lost_across`, the same over the checkpoints of all runs. Measured
scores are used for comparing only.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from blda.balance.bias_agreement import spearman
from blda.calibration.unlabelled_criteria import CRITERIA, mean_ranks
from blda.engine import checkpoint
from blda_video.jobs.checkpoint_ranking import Ranked, rank
from runs import circumstances

MEASURED = "target/mIoU"


def measured(path: Path) -> float:
    """Read the mIoU of a checkpoint's step from its run's log; ValueError if it was not evaluated there."""
    lines = map(json.loads, (path.parent / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    found = [line[MEASURED] for line in lines if line["step"] == checkpoint.step_of(path) and MEASURED in line]
    if not found:
        raise ValueError(f"{path.parent}/metrics.jsonl has no {MEASURED} at step {checkpoint.step_of(path)}")
    return found[-1]


def judged(name: str, checkpoints: Sequence[Ranked]) -> list[float] | None:
    """Return the values of a criterion, of the score among these checkpoints, or of the steps; None if one is nan."""
    if name == "score":
        return mean_ranks([each.criteria for each in checkpoints])
    if name == "steps":
        return [float(checkpoint.step_of(each.path)) for each in checkpoints]
    values = [CRITERIA[name] * each.criteria[name] for each in checkpoints]
    return None if any(map(math.isnan, values)) else values


def compared(name: str, checkpoints: Sequence[Ranked], truth: dict[Path, float]) -> tuple[float, float] | None:
    """Return the rank correlation with the truth, and the points lost against the best."""
    values = judged(name, checkpoints)
    if values is None:
        return None
    true = [truth[each.path] for each in checkpoints]
    # Of equals the later one, as in `rank`.
    chosen = max(range(len(true)), key=lambda i: (values[i], checkpoint.step_of(checkpoints[i].path)))
    return spearman(torch.tensor(values).double(), torch.tensor(true).double()), max(true) - true[chosen]


def main() -> None:
    """Read the arguments, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs; and key=value")
    parser.add_argument("--images", type=int, default=30, help="target images that each checkpoint predicts")
    given = parser.parse_intermixed_args()
    folders = [Path(each) for each in given.runs if Path(each).is_dir()]
    ranked = rank(folders, [each for each in given.runs if Path(each) not in folders], given.images)
    truth = {each.path: measured(each.path) for each in ranked}
    by_run: dict[str, list[Ranked]] = {}
    for each in sorted(ranked, key=lambda each: each.path):
        by_run.setdefault(str(each.path.parent), []).append(each)
    report = {}
    for name in ("score", *CRITERIA, "steps"):
        runs = {run: compared(name, checkpoints, truth) for run, checkpoints in by_run.items()}
        known = {run: found for run, found in runs.items() if found is not None}
        everything = compared(name, ranked, truth)
        report[name] = {
            "within": {run: round(found[0], 2) for run, found in known.items()},
            "lost": {run: round(found[1], 2) for run, found in known.items()},
            "across": everything and round(everything[0], 3),
            "lost_across": everything and round(everything[1], 2),
        }
    mious = {run: [round(truth[each.path], 2) for each in checkpoints] for run, checkpoints in by_run.items()}
    rows = [{**each.numbers(), "measured_mIoU": truth[each.path]} for each in ranked]
    print(json.dumps({"mIoU": mious, "chosen_by": report, "checkpoints": rows, **circumstances("cpu")}, indent=1))


if __name__ == "__main__":
    main()
