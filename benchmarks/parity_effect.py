"""Measure the effect of two differences from the published code; prints JSON.

    python benchmarks/parity_effect.py [--configs ablation.yaml camvid_day2dusk.yaml world2camvid.yaml] \
        [--methods self_training blda] [--variants before jitter start both] [--seeds 0 1 2] [--jobs 1] \
        [--output runs/parity_effect] [key=value ...]

Variant `jitter` takes the published colour jitter in place of ours, `start` the published initial deviation of the
head's depthwise convolutions, `both` both, and `before` neither: its filters start 8 to 32 times larger, because their
deviation counts the channels of one group alone. Networks start from files in OUTPUT/starts, so that the variants of a
seed differ in nothing else. Each run is one of the project's tools with overrides and a seed; finished runs in OUTPUT
are not repeated, stopped ones continue.

Side by side on a GPU, by benchmarks/gpu.sh (docs/gpu.md), on that machine:

    python benchmarks/parity_effect.py --list runs.yaml
    bash benchmarks/gpu.sh --parts training --runs $PWD/runs.yaml OUT
    python benchmarks/parity_effect.py --collect OUT/training.json
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from blda.config import loading
from blda.engine import checkpoint, runtime
from blda_video.jobs.kinds import of_run
from runs import ROOT, circumstances, result, spread, trained

BEFORE = "before"
VARIANTS = {BEFORE: (False, False), "jitter": (True, False), "start": (False, True), "both": (True, True)}
"""Name -> whether the jitter and the start are the published ones."""
CONFIGS = ("ablation.yaml", "camvid_day2dusk.yaml", "world2camvid.yaml")
METHODS = ("self_training", "blda")
NUMBERS = ("mIoU", "mAcc", "std")

Key = tuple[str, str, str]
"""Config, method, variant."""
Scores = Mapping[str, float | None]


def main() -> None:
    given = arguments()
    given.output = given.output.absolute()
    if given.collect is not None:
        found = json.loads(given.collect.read_text(encoding="utf-8"))["runs"]
        print(json.dumps(compared(collected(found)), indent=1))
    elif given.list is not None:
        given.list.write_text(yaml.safe_dump(listed(given), sort_keys=False, width=110), encoding="utf-8")
    else:
        asked = {"overrides": given.overrides, "seeds": given.seeds}
        print(json.dumps({**circumstances(), **asked, "results": compared(run(given))}, indent=1))


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--configs", nargs="+", default=CONFIGS, help="names in configs/")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("runs/parity_effect"))
    parser.add_argument("--list", type=Path, metavar="FILE", help="write the runs for benchmarks/gpu.sh, run nothing")
    parser.add_argument("--collect", type=Path, metavar="FILE", help="compare the runs of its training.json")
    return parser.parse_intermixed_args()


def options(given: argparse.Namespace, config: str, variant: str, seed: int) -> list[str]:
    """Overrides of one run; writes its start file if it is missing."""
    jitter, published = VARIANTS[variant]
    start = given.output / "starts" / f"{Path(config).stem}_{'published' if published else BEFORE}_{seed}.pt"
    if not start.exists():
        write_start(ROOT / "configs" / config, [*given.overrides, f"seed={seed}"], published, start)
    augment = "published" if jitter else "per_image"
    return [*given.overrides, f"self_training.augment={augment}", f"model.weights={start}"]


def write_start(config: Path, overrides: Sequence[str], published: bool, path: Path) -> None:
    """Save the network of a run with its head's depthwise convolutions at one of the two deviations."""
    kind, compose = of_run(config, overrides)
    student = compose(loading.load(config, kind, overrides), runtime.start("no")).networks.student()
    path.parent.mkdir(parents=True, exist_ok=True)
    rescale(student.head, published)
    checkpoint.save(path, {"student": student})


def rescale(head: nn.Module, published: bool) -> None:
    """Give every depthwise convolution Kaiming's deviation for ReLU: counting all output channels, or those of one
    group.
    """
    depthwise = [m for m in head.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    if not depthwise:
        raise ValueError(f"{type(head).__name__} has no depthwise convolution; take a config with the head daformer")
    for conv in depthwise:
        fan = math.prod(conv.kernel_size) * (conv.out_channels if published else conv.out_channels // conv.groups)
        with torch.no_grad():
            conv.weight.mul_(math.sqrt(2 / fan) / conv.weight.std())


def run(given: argparse.Namespace) -> dict[Key, dict[int, Scores]]:
    """Train all variants, seed by seed."""
    found: dict[Key, dict[int, Scores]] = {}
    for seed in given.seeds:
        for config in given.configs:
            named = {
                f"{method}_{variant}": [*options(given, config, variant, seed), f"method={method}"]
                for method in given.methods
                for variant in given.variants
            }
            stem = Path(config).stem
            folders = trained(ROOT / "configs" / config, named, [seed], given.output / stem, given.jobs)
            for method in given.methods:
                for variant in given.variants:
                    (folder,) = folders[f"{method}_{variant}"]
                    found.setdefault((stem, method, variant), {})[seed] = result(folder)
    return found


def listed(given: argparse.Namespace) -> dict[str, Any]:
    """List the runs in the format of benchmarks/gpu/trainings.yaml, one entry per seed."""
    trainings = {}
    for seed in given.seeds:
        for config in given.configs:
            for variant in given.variants:
                overrides = options(given, config, variant, seed)
                entry = {"config": config, "overrides": overrides, "methods": list(given.methods), "seeds": [seed]}
                trainings[f"{Path(config).stem}_{variant}_{seed}"] = entry
    common = ["training.workers=1", "training.checkpoint_every=1000000"]
    common.append("log={every: 20, bar: false, pictures: 1000000}")
    return {"steps": {"most": 2000, "least": 400}, "common": common, "trainings": trainings}


def collected(runs: Mapping[str, Mapping[str, Any]]) -> dict[Key, dict[int, Scores]]:
    """Read the scores of `listed` runs from a training.json; unfinished runs are left out."""
    found: dict[Key, dict[int, Scores]] = {}
    for name, row in runs.items():
        entry, method, seed = name.split("/")
        stem, variant, _ = entry.rsplit("_", 2)
        if row.get("to_the_end"):
            found.setdefault((stem, method, variant), {})[int(seed)] = row["scores"]
    return found


def compared(found: Mapping[Key, Mapping[int, Scores]]) -> dict[str, Any]:
    """Scores over the seeds by config, method and variant, and the gain in mIoU over `before`, seed by seed."""
    report: dict[str, Any] = {}
    for (config, method, variant), scores in found.items():
        row: dict[str, Any] = {name: spread(values) for name, values in _numbers(scores)}
        before = found.get((config, method, BEFORE), {})
        gains = {seed: round(scores[seed]["mIoU"] - before[seed]["mIoU"], 2) for seed in scores if seed in before}
        if gains and variant != BEFORE:
            row["gain"] = {**spread(list(gains.values())), "by_seed": gains}
        report.setdefault(config, {}).setdefault(method, {})[variant] = row
    return report


def _numbers(scores: Mapping[int, Scores]) -> Iterator[tuple[str, list[float]]]:
    for name in NUMBERS:
        if values := [each[name] for each in scores.values() if each.get(name) is not None]:
            yield name, values


if __name__ == "__main__":
    main()
