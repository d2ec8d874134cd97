"""Take the balanced loss of a trained run apart, by the labels that its statistics are counted by; prints JSON.

    python benchmarks/balance_anatomy.py runs/ablation/blda/step_000700.pt [--updates 60] [--images 60] [key=value ...]

The student of the checkpoint sees images of the run's evaluation data as in training (BatchNorm on the batch).
Statistics of the target are estimated anew from these images, counted by the pseudo-labels (`hard`), by labels sampled
from the teacher's probabilities (`soft`), and by the true labels (`true`), which nothing else reads; the anchors are
the checkpoint's. For each kind:

    margin   tau (Delta_y - sum_l p_l Delta_l) of the pseudo-labelled class y, mean by class: the lead, in logits, that
             the loss demands of the class beyond plain cross-entropy
    pull     sum of |d loss / d z_y| over the pixels pseudo-labelled y, as a ratio to plain cross-entropy, by class
    flips    percent of labelled pixels whose decision the post-hoc correction changes; of these, the percent that
             becomes right, and the percent that was right before
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

from blda.balance.alignment import Alignment, alignment, correction
from blda.balance.logit_statistics import LogitStatistics
from blda.balance.soft_counting import sampled_labels
from blda.build.run import Run
from blda.build.statistics_factory import statistics_arguments
from blda.calibration.scores import scores
from blda.data.sample import IGNORE, Sample, collate
from blda.engine import checkpoint
from blda_video.jobs.restored_run import restored
from runs import circumstances

KINDS = ("hard", "soft", "true")


def batches(run: Run, count: int, size: int = 2) -> Iterator[Sample]:
    """Yield batches of evaluation images in random order, over several passes."""
    data, generator = run.data.evaluation(), torch.Generator().manual_seed(0)
    order = torch.cat([torch.randperm(len(data), generator=generator) for _ in range(size * count // len(data) + 1)])
    for chosen in order[: size * count].split(size):
        yield collate([data[i] for i in chosen.tolist()]).to(run.accelerator.device)


def true_labels(sample: Sample) -> Tensor:
    """True labels at the image's size, (B, H, W)."""
    size = sample.image.shape[-2:]
    return functional.interpolate(sample.label[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()


class Sums:
    """Sums over pixels of one kind of statistics."""

    def __init__(self, classes: int) -> None:
        self.pixels, self.margin, self.pull, self.plain = torch.zeros(4, classes, dtype=torch.float64)
        self.flips = self.right = self.wrong = self.seen = 0

    def add(self, logits: Tensor, label: Tensor, truth: Tensor, aligned: Alignment, tau: float) -> None:
        """Add a batch: logits (B, C, H, W), pseudo-labels and true labels (B, H, W)."""
        moved = correction(logits, label, [aligned])
        probabilities, one_hot = logits.softmax(1), label[:, None]
        lead = tau * (moved.gather(1, one_hot) - (probabilities * moved).sum(1, keepdim=True))[:, 0]
        balanced = (logits - tau * moved).softmax(1).gather(1, one_hot)[:, 0]
        own = probabilities.gather(1, one_hot)[:, 0]
        values = (torch.ones_like(lead), lead, 1 - balanced, 1 - own)
        for total, value in zip((self.pixels, self.margin, self.pull, self.plain), values, strict=True):
            total.index_add_(0, label.flatten(), value.double().flatten())
        known, before, after = truth != IGNORE, logits.argmax(1), scores(logits, aligned, tau).argmax(1)
        flipped = known & (before != after)
        self.seen += int(known.sum())
        self.flips += int(flipped.sum())
        self.right += int((flipped & (after == truth)).sum())
        self.wrong += int((flipped & (before == truth)).sum())

    def report(self, names: tuple[str, ...]) -> dict[str, object]:
        """Return means and shares by name."""
        margin, pull = self.margin / self.pixels, self.pull / self.plain
        flips = max(self.flips, 1)
        return {
            "margin": _by_name(names, margin),
            "pull": _by_name(names, pull),
            "margin_spread": round(float(margin[self.pixels > 0].std()), 3),
            "flips_percent": round(100 * self.flips / self.seen, 2),
            "right_percent_of_flips": round(100 * self.right / flips, 1),
            "wrong_percent_of_flips": round(100 * self.wrong / flips, 1),
        }


def _by_name(names: tuple[str, ...], values: Tensor) -> dict[str, float]:
    """Return the values of the classes that have any pixels, by name."""
    return {name: round(float(value), 3) for name, value in zip(names, values, strict=True) if value.isfinite()}


@torch.no_grad()
def anatomy(
    run: Run, student: nn.Module, teacher: nn.Module, source: LogitStatistics, given: argparse.Namespace
) -> dict[str, dict[str, object]]:
    """Estimate the statistics of every kind, then take the loss apart with each."""
    settings = {**statistics_arguments(run.config, "target"), "soft_counting": False}
    kinds = {kind: LogitStatistics(**settings).to(run.accelerator.device) for kind in KINDS}
    student.train()
    for number, sample in enumerate(batches(run, given.updates)):
        probabilities, truth = teacher(sample.image).softmax(1), true_labels(sample)
        label = {"hard": probabilities.argmax(1), "soft": sampled_labels(probabilities, number), "true": truth}
        logits = student(sample.image)
        for kind, statistics in kinds.items():
            statistics.update(logits, label[kind])
    tables = {kind: alignment(statistics, source) for kind, statistics in kinds.items()}
    sums = {kind: Sums(len(run.class_names)) for kind in KINDS}
    for sample in batches(run, given.images // 2):
        logits, label, truth = student(sample.image), teacher(sample.image).argmax(1), true_labels(sample)
        for kind, table in tables.items():
            sums[kind].add(logits, label, truth, table, run.config.blda.tau)
    return {kind: each.report(run.class_names) for kind, each in sums.items()}


def main() -> None:
    """Read the arguments, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="step_*.pt of BLDA in a run's folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a key of the run's config")
    parser.add_argument("--updates", type=int, default=60, help="batches that the statistics are estimated from")
    parser.add_argument("--images", type=int, default=60, help="images that are taken apart")
    given = parser.parse_intermixed_args()
    try:
        run, student = restored(given.checkpoint, given.overrides)
        teacher = run.networks.teacher(student, run.accelerator.autocast).to(run.accelerator.device)
        source = run.losses.statistics("blda")[0]
        states = checkpoint.read(given.checkpoint)
        checkpoint.restore(given.checkpoint, states, {"teacher": teacher, "source_statistics": source})
        found = anatomy(run, student, teacher, source, given)
    except (ValueError, FileNotFoundError, KeyError) as error:
        sys.exit(f"error: {error}")
    print(
        json.dumps(
            {**circumstances(), "checkpoint": str(given.checkpoint), "tau": run.config.blda.tau, **found}, indent=1
        )
    )


if __name__ == "__main__":
    main()
