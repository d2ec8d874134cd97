"""Measure whether pooling over clips and counting probabilities improve the target statistics; prints JSON.

    python benchmarks/smoothing.py runs/demo/blda/step_000700.pt --offsets -1 1 [--steps 36] [key=value ...]

The student of the checkpoint sees clips of the run's evaluation data as in training (BatchNorm on the batch), its
teacher labels them, and every kind of target statistics is updated from an empty state with the same batches in one
order. The truth is the student's logits of all these images under their true labels, which nothing else reads.

Per kind and number of steps: the distance (Kolmogorov-Smirnov, mean over cells) between the estimated mixtures and the
truth, over all cells (c, l) and over the positive ones (c, c), and by how many percent it is smaller than that of
`hard`: pseudo-labels alone. `pooled`: over the clip (METHOD 7); `by_belief`: labels counted by probability;
`true_labels`: the error of fitting and momentum alone. Classes that a kind has not seen yet are left out of all kinds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from blda.balance import logit_grid
from blda.balance.gaussian_mixture import cdf
from blda.balance.logit_statistics import LogitStatistics
from blda.build.run import Run
from blda.build.statistics_factory import statistics_arguments
from blda.data.sample import IGNORE, collate
from blda.engine import checkpoint
from blda_video.build import rule_of
from blda_video.clips.clip import Clip
from blda_video.jobs.restored_run import restored
from blda_video.propagation.propagated_labels import PropagatedLabels
from blda_video.smoothed_statistics import SmoothedStatistics
from runs import circumstances

SEEN = 100
"""Pixels that a class needs among the true labels."""


def kinds(run: Run, scale: float) -> dict[str, LogitStatistics]:
    """Make empty statistics of every kind."""
    settings = statistics_arguments(run.config, "target")
    hard, soft = {**settings, "soft_counting": False}, {**settings, "soft_counting": True}
    return {
        "hard": LogitStatistics(**hard),
        "pooled": SmoothedStatistics(**hard, scale=scale),
        "by_belief": LogitStatistics(**soft),
        "pooled_by_belief": SmoothedStatistics(**soft, scale=scale),
        "true_labels": LogitStatistics(**hard),
    }


def batches(run: Run, size: int, steps: int) -> Iterator[Clip]:
    """Yield batches of clips in random order, over several passes."""
    data, generator = run.data.evaluation(), torch.Generator().manual_seed(0)
    order = torch.cat([torch.randperm(len(data), generator=generator) for _ in range(size * steps // len(data) + 1)])
    for step in range(steps):
        chosen = order[step * size : (step + 1) * size].tolist()
        yield collate([data[i] for i in chosen]).to(run.accelerator.device)


def true_labels(clip: Clip) -> Tensor:
    """True labels at the image's size, (B, H, W)."""
    label = functional.interpolate(clip.label[:, None].float(), size=clip.image.shape[-2:], mode="nearest-exact")
    return label[:, 0].long()


def distances(statistics: LogitStatistics, truth: Tensor) -> Tensor:
    """Largest gap between both distribution functions of every cell, (C, C)."""
    counts = truth / truth.sum(-1, keepdim=True).clamp_min(1)
    # A logit is counted at its nearest node: half of a node's count lies below it.
    true = counts.cumsum(-1) - counts / 2
    return (cdf(statistics.mixture, logit_grid.nodes(truth.device)) - true).abs().amax(-1)


def compared(found: dict[str, LogitStatistics], truth: Tensor) -> dict[str, dict[str, float]]:
    """Mean distances of every kind over the classes that all kinds have seen."""
    known = truth[:, 0].sum(-1) >= SEEN
    for each in found.values():
        known &= each.estimated[: each.num_classes]
    gaps = {name: distances(each, truth)[known] for name, each in found.items()}
    mean = {name: float(gap.mean()) for name, gap in gaps.items()}
    own = {name: float(gap[:, known].diagonal().mean()) for name, gap in gaps.items()}
    return {
        name: {
            "all_cells": round(mean[name], 4),
            "positive_cells": round(own[name], 4),
            "smaller_percent": round(100 * (1 - mean[name] / mean["hard"]), 1),
        }
        for name in found
    }


@torch.no_grad()
def measure(
    run: Run, student: nn.Module, teacher: nn.Module, given: argparse.Namespace
) -> dict[int, dict[str, dict[str, float]]]:
    """Measure the distances, by number of steps."""
    settings = run.config.self_training
    rule = rule_of(run.config, run.batches.frequency)
    pseudo_labeler = PropagatedLabels(rule, settings.threshold, settings.ignore_top, settings.ignore_bottom)
    found = {name: each.to(run.accelerator.device) for name, each in kinds(run, given.scale).items()}
    stages: dict[int, dict[str, dict[str, Tensor]]] = {}
    truth: Tensor | int = 0
    torch.manual_seed(0)
    student.train()
    clips = batches(run, given.batch, max(given.steps))
    for step, clip in enumerate(tqdm(clips, desc="steps", total=max(given.steps)), 1):
        logits, labels, pseudo = student(clip.image), true_labels(clip), pseudo_labeler(teacher, clip)
        trusted = torch.where(pseudo.weight > 0, pseudo.label, IGNORE)
        truth = truth + found["true_labels"].histogram(logits, labels)
        for name, each in found.items():
            each.update(logits, *((labels,) if name == "true_labels" else (trusted, pseudo)))
        if step in given.steps:
            stages[step] = {name: {k: v.clone() for k, v in each.state_dict().items()} for name, each in found.items()}
    report = {}
    for step, states in stages.items():
        for name, state in states.items():
            found[name].load_state_dict(state)
        report[step] = compared(found, truth)
    return report


def main() -> None:
    """Read the arguments, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="step_*.pt of self-training in a video run's folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a key of the run's config")
    parser.add_argument("--offsets", type=int, nargs="+", default=[-1, 1], help="signed frame distances of the context")
    parser.add_argument("--steps", type=int, nargs="+", default=[6, 18, 36], help="updates to judge after")
    parser.add_argument("--batch", type=int, default=2, help="clips an update")
    parser.add_argument(
        "--scale", type=float, default=2.0, help="frames over which an observation's weight falls to 1/e"
    )
    given = parser.parse_intermixed_args()
    try:
        run, student = restored(given.checkpoint, [*given.overrides, f"consistency={given.offsets}"])
        teacher = run.networks.teacher(student, run.accelerator.autocast).to(run.accelerator.device)
        checkpoint.restore(given.checkpoint, checkpoint.read(given.checkpoint), {"teacher": teacher})
        found = measure(run, student, teacher, given)
    except (ValueError, FileNotFoundError, KeyError) as error:
        sys.exit(f"error: {error}")
    settings = {
        "benchmark": "smoothing",
        "checkpoint": str(given.checkpoint),
        "data": run.config.evaluation.reader,
        "offsets": given.offsets,
        "batch": given.batch,
        "rule": run.config.rule,
        "steps": found,
    }
    print(json.dumps({**settings, **circumstances()}, indent=1, default=str))


if __name__ == "__main__":
    main()
