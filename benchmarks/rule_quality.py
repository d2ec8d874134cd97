"""Measure the quality of every propagation rule's pseudo-labels with one teacher; prints JSON.

    python benchmarks/rule_quality.py runs/demo/blda/step_000700.pt --offsets -1 1 [--frames 30] [key=value ...]

The teacher of the checkpoint labels evenly spread frames of the run's evaluation data as it labels in training (its
moving average, BatchNorm on the batch); without a teacher in the checkpoint, its student is used. key=value replaces
any key of the run's config, such as `flow` and `chain`. Labels are used for measuring only, except by the rule
`oracle`.

--rules takes names and mappings, `trajectory '{name: consistent_confidence, threshold: 0.9}'`; by default every rule.

Per rule, in percent, by the run's first protocol: mIoU of the labels that are kept, and per class; `none_there`, the
mIoU of the key's own labels at the same pixels; `gain`, the difference; `coverage`, the share of labelled pixels kept,
and per class of the truth. `any_frame_right` is not a rule: it takes the true label wherever the key or a valid context
frame predicts it, an upper bound for any choice among these frames. `agreement`: the share of valid context labels that
equal the key's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
import yaml
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from blda import atomic
from blda.build.run import Run
from blda.data.protocols import Protocol
from blda.data.sample import IGNORE
from blda.engine import checkpoint
from blda_video import build
from blda_video.build import RULES
from blda_video.clips.clip import Clip
from blda_video.flow.flow_geometry import warp
from blda_video.jobs.restored_run import restored
from blda_video.propagation.agreement_rules import Oracle
from blda_video.propagation.rule import Combined, Rule
from runs import circumstances

DEFAULT = [*RULES, "oracle"]
BOUND = "any_frame_right"


@dataclasses.dataclass(frozen=True)
class FrameProbabilities:
    """Teacher's probabilities of one clip, see `Rule`; truth: (B, H, W) at their size."""

    key: Tensor
    warped: Tensor
    valid: Tensor
    offset: tuple[int, ...]
    truth: Tensor

    def by(self, rule: Rule) -> Combined:
        return rule(self.key, self.warped, self.valid, self.offset)


class Score:
    """Pixel counts of one rule.

    own: (C, C) truth x the rule's label, where it keeps the label. none: the same with the key's label. truth: (C,).
    """

    def __init__(self, classes: int) -> None:
        self.own, self.none = torch.zeros(2, classes, classes, dtype=torch.float64)
        self.truth = torch.zeros(classes, dtype=torch.float64)

    def add(self, truth: Tensor, label: Tensor, none: Tensor, keep: Tensor) -> None:
        classes, known = len(self.truth), truth != IGNORE
        self.truth += torch.bincount(truth[known], minlength=classes).cpu()
        for counts, labels in ((self.own, label), (self.none, none)):
            cell = (truth * classes + labels)[known & keep]
            counts += torch.bincount(cell, minlength=classes**2).view(classes, classes).cpu()

    def numbers(self, protocol: Protocol, classes: Sequence[str]) -> dict[str, float]:
        own, none = (protocol.scores(counts, classes) for counts in (self.own, self.none))
        kept, share = self.own.sum(1), dict(zip(classes, (self.own.sum(1) / self.truth).tolist(), strict=True))
        head = {
            "mIoU": own["mIoU"],
            "none_there": none["mIoU"],
            "gain": own["mIoU"] - none["mIoU"],
            "coverage": 100 * float(kept.sum() / self.truth.sum()),
        }
        iou = {key: value for key, value in own.items() if key.startswith("iou/")}
        return {**head, **iou, **{f"coverage/{name}": 100 * share[name] for name in protocol.classes}}


def frame_probabilities_of(run: Run, path: Path, student: torch.nn.Module, frames: int) -> Iterator[FrameProbabilities]:
    """Predict `frames` evenly spread frames of the evaluation data; all if there are fewer."""
    teacher = run.networks.teacher(student, run.accelerator.autocast).to(run.accelerator.device)
    states = checkpoint.read(path)
    if "teacher" in states:
        checkpoint.restore(path, states, {"teacher": teacher})
    else:
        teacher = student.eval()
    data = run.data.evaluation()
    chosen = torch.linspace(0, len(data) - 1, min(frames, len(data))).round().long().tolist()
    for index in tqdm(chosen, desc="frames"):
        with torch.no_grad():
            yield _believed(teacher, data[index].to(run.accelerator.device))


def _believed(teacher: torch.nn.Module, clip: Clip) -> FrameProbabilities:
    key = teacher(clip.image).softmax(1)
    seen = [warp(teacher(clip.context[:, k]).softmax(1), clip.flow[:, k]) for k in range(len(clip.offset))]
    truth = functional.interpolate(clip.label[:, None].float(), size=key.shape[-2:], mode="nearest-exact")
    return FrameProbabilities(key, torch.stack(seen, 1), clip.valid, clip.offset, truth[:, 0].long())


def bound(frame_probabilities: FrameProbabilities) -> Tensor:
    """Label of `any_frame_right`."""
    right = (
        frame_probabilities.valid & (frame_probabilities.warped.argmax(2) == frame_probabilities.truth[:, None])
    ).any(1)
    return torch.where(right, frame_probabilities.truth, frame_probabilities.key.argmax(1))


def rule_of(run: Run, part: str | Mapping) -> Rule | None:
    """Make a rule from its name or mapping; None for the oracle, which is made anew for every clip."""
    config = dataclasses.replace(run.config, rule=part)
    return None if part == "oracle" else build.rule_of(config, run.batches.frequency)


def measure(run: Run, clips: Iterator[FrameProbabilities], rules: Mapping[str, Rule | None]) -> dict[str, object]:
    """Measure every rule."""
    scores = {name: Score(len(run.class_names)) for name in (*rules, BOUND)}
    valid, same = 0, 0
    for frame_probabilities in clips:
        none = frame_probabilities.key.argmax(1)
        for name, rule in rules.items():
            combined = frame_probabilities.by(rule or Oracle(frame_probabilities.truth))
            scores[name].add(frame_probabilities.truth, combined.probabilities.argmax(1), none, combined.keep)
        scores[BOUND].add(
            frame_probabilities.truth, bound(frame_probabilities), none, torch.ones_like(none, dtype=torch.bool)
        )
        valid += int(frame_probabilities.valid.sum())
        same += int((frame_probabilities.valid & (frame_probabilities.warped.argmax(2) == none[:, None])).sum())
    numbers = {name: score.numbers(run.protocols[0], run.class_names) for name, score in scores.items()}
    rounded = {name: {key: round(value, 2) for key, value in each.items()} for name, each in numbers.items()}
    return {
        "agreement": round(100 * same / max(valid, 1), 2),
        "rules": {k: atomic.finite(v) for k, v in rounded.items()},
    }


def main() -> None:
    """Read the arguments, measure, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="step_*.pt in a video run's folder")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a key of the run's config")
    parser.add_argument("--offsets", type=int, nargs="+", default=[-1, 1], help="signed frame distances of the context")
    parser.add_argument("--frames", type=int, default=30, help="labelled frames to measure on")
    parser.add_argument("--rules", nargs="+", default=DEFAULT, metavar="RULE", help="names, or parts as YAML")
    given = parser.parse_intermixed_args()
    try:
        run, student = restored(given.checkpoint, [*given.overrides, f"consistency={given.offsets}"])
        rules = {text: rule_of(run, yaml.safe_load(text)) for text in given.rules}
        clips = frame_probabilities_of(run, given.checkpoint, student, given.frames)
        found = measure(run, clips, rules)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
    settings = {
        "benchmark": "pseudo_labels",
        "checkpoint": str(given.checkpoint),
        "data": run.config.evaluation.reader,
        "offsets": given.offsets,
        "flow": run.config.flow,
        "chain": run.config.chain,
        "frames": given.frames,
        "protocol": run.protocols[0].name,
    }
    print(json.dumps({**settings, **found, **circumstances()}, indent=1, default=str))


if __name__ == "__main__":
    main()
