"""Measure the gain of each component of BLDA on the street world, over seeds; prints JSON.

    python benchmarks/ablation.py [--config configs/ablation.yaml] [--seeds 0 1 2] [--jobs 2] [--output runs/ablation] \
        [key=value ...]

Trains with the project's tools: on the source alone, self-training, the same with class re-weighting, BLDA on source
pixels, on both domains, and with cumulative-density regression; and calibrates trained networks after the fact
(blda calibrate). Finished runs in OUTPUT are not repeated, stopped ones continue. For every variant: mIoU, mAcc and
deviation over classes with mean and spread over the seeds, its margin in mIoU over self-training seed by seed, and the
rank correlation between the estimated and the true bias of the target at every evaluation.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from runs import ROOT, circumstances, comparison, result, spread, trained

VARIANTS = {
    "source_only": ["method=source_only"],
    "self_training": ["method=self_training"],
    "reweighted": ["method=reweighted"],
    "online_source": ["method=blda", "blda.correct_target=false"],
    "online_both": ["method=blda"],
    "online_both_tau_0.1": ["method=blda", "blda.tau=0.1"],
    "cumulative_density": ["method=blda", "blda.density={}"],
}
TAUS = ("0.1", "0.2", "0.3", "0.5", "1.0")
POST_HOC = ("self_training", "online_both")
CORRELATION = "bias_rank_correlation"


def main() -> None:
    given = comparison(__doc__, "ablation.yaml", "ablation").parse_intermixed_args()
    variants = {name: [*given.overrides, *options] for name, options in VARIANTS.items()}
    folders = trained(given.config, variants, given.seeds, given.output, given.jobs)
    scores = {name: [result(folder) for folder in each] for name, each in folders.items()}
    for name in POST_HOC:
        for tau, runs in calibrated(folders[name]).items():
            scores[f"{name}+post_hoc_tau_{tau}"] = runs
    report = {name: compared(runs, scores["self_training"]) for name, runs in scores.items()}
    for name in ("online_source", "online_both", "cumulative_density"):
        report[name][CORRELATION] = [correlations(folder) for folder in folders[name]]
    asked = {"config": given.config.name, "overrides": given.overrides, "seeds": given.seeds}
    protocol = scores["self_training"][0]["protocol"]
    print(json.dumps({**circumstances(), **asked, "protocol": protocol, "variants": report}, indent=1))


def calibrated(folders: list[Path]) -> dict[str, list[dict[str, float]]]:
    """Map tau to the scores of trained networks, calibrated without training and without target labels."""
    found: dict[str, list[dict[str, float]]] = {tau: [] for tau in TAUS}
    for folder in folders:
        done = folder / "calibration.json"
        if not done.exists():
            command = [sys.executable, str(ROOT / "tools" / "calibrate.py"), str(max(folder.glob("step_*.pt")))]
            command += ["log.bar=false", "--images", "120", "--output", str(folder / "calibration.pt"), "--tau", *TAUS]
            done.write_text(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
        for scores in json.loads(done.read_text())["sweep"]:
            if str(scores["tau"]) in found:
                found[str(scores["tau"])].append(scores)
    return found


def compared(runs: list[dict[str, float]], base: list[dict[str, float]]) -> dict[str, object]:
    """Means and spreads, and the margin over the base seed by seed."""
    margin = [run["mIoU"] - other["mIoU"] for run, other in zip(runs, base, strict=True)]
    return {key: spread([run[key] for run in runs]) for key in ("mIoU", "mAcc", "std")} | {"margin": spread(margin)}


def correlations(folder: Path) -> dict[int, float]:
    """Map each step to the rank correlation of estimated and true bias."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    numbers = [json.loads(line) for line in lines]
    key = f"target/{CORRELATION}"
    return {line["step"]: round(line[key], 3) for line in numbers if line.get(key) is not None}


if __name__ == "__main__":
    main()
