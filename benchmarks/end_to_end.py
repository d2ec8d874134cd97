"""Measure the gains of balance, propagation and smoothing on the street world, added in turn, over seeds; prints JSON.

    python benchmarks/end_to_end.py [--seeds 0 1 2] [--jobs 2] [--output runs/end_to_end] [key=value ...]

Trains with the project's tools (configs/ablation.yaml, evaluated on drives that served no choice): self-training; BLDA;
BLDA with pseudo-labels propagated from both neighbours; the latter with statistics smoothed over the clip. Finished
runs in OUTPUT are not repeated, stopped ones continue. Then blda evaluate measures every last checkpoint with the
two frames before along DIS flow. Per variant, over the seeds: mIoU, mAcc, deviation over classes, the temporal metrics,
and the margin in mIoU over the variant before, seed by seed. benchmarks/step_time.py measures the costs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from runs import ROOT, circumstances, comparison, spread, trained

CLIPS = ["method=blda", "offsets=[-1,1]", "rule=trajectory"]
VARIANTS = {
    "self_training": ["method=self_training"],
    "blda": ["method=blda"],
    "propagation": CLIPS,
    "smoothing": [*CLIPS, "smoothing={scale: 2.0}", "blda.by_belief=true"],
}
TEMPORAL = ["consistency=[-2,-1]", "flow={name: dis, preset: medium}"]
CURVES = ("mIoU", "mAcc", "std")


def main() -> None:
    given = comparison(__doc__, "ablation.yaml", "end_to_end").parse_intermixed_args()
    variants = {name: [*given.overrides, *options] for name, options in VARIANTS.items()}
    folders = trained(given.config, variants, given.seeds, given.output, given.jobs)
    scores = {name: [measured(folder) for folder in each] for name, each in folders.items()}
    report, before = {}, None
    for name, runs in scores.items():
        report[name] = compared(runs, before)
        before = runs
    asked = {"config": given.config.name, "overrides": given.overrides, "seeds": given.seeds}
    protocol = scores["self_training"][0]["protocol"]
    print(json.dumps({**circumstances(), **asked, "protocol": protocol, "variants": report}, indent=1))


def measured(folder: Path) -> dict[str, float]:
    """The scores of a run's last checkpoint with the temporal metrics."""
    done = folder / "temporal.json"
    if not done.exists():
        last = max(folder.glob("step_*.pt"))
        command = [sys.executable, str(ROOT / "tools" / "evaluate.py"), str(last), *TEMPORAL, "log.bar=false"]
        done.write_text(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    return json.loads(done.read_text())


def compared(runs: list[dict[str, float]], before: list[dict[str, float]] | None) -> dict[str, object]:
    """Means and spreads of accuracy and of the temporal metrics, and the margin over the variant before."""
    temporal = [key for key in runs[0] if "/" not in key and key not in (*CURVES, "protocol")]
    numbers: dict[str, object] = {
        key: spread([run[key] for run in runs])
        for key in (*CURVES, *temporal)
        if all(isinstance(run.get(key), float) for run in runs)
    }
    if before is not None:
        numbers["margin"] = spread([run["mIoU"] - other["mIoU"] for run, other in zip(runs, before, strict=True)])
    return numbers


if __name__ == "__main__":
    main()
