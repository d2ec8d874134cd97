"""Measure how far training steps are from steps that another implementation recorded; prints JSON.

    python benchmarks/replay_steps.py FILE.npz [--device cpu]

benchmarks/recorded_steps.py describes FILE. The run is configs/gta2cs.yaml, with the variant hrda if the weights have a
scale attention, and with masks if masked losses are recorded. Network, losses, optimizer and teacher are the config's,
in the trainer's own steps. Recorded values replace random draws and data: batches, pasted classes, HRDA's windows and
masks. Colour jitter, blur, dropout and drop-path are off. The share of confident pixels is of the whole batch, as
published; the library's is per image (docs/method.md, 6).

Reported are the largest difference of each loss and of the pseudo-labels' weights, and, for student and teacher, the
norm of the weights' difference divided by the norm of their recorded change, with the parameters that differ most.
Exit code 1 when one exceeds its limit.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from blda.build.adaptation_factory import AdaptationFactory
from blda.build.image_run import image_run
from blda.build.loss_factory import LossFactory
from blda.build.network_factory import NetworkFactory
from blda.build.reader_factory import class_names
from blda.build.run import Run
from blda.build.statistics_factory import image_statistics
from blda.config import loading
from blda.config.schema import Config
from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import Sample
from blda.engine import runtime
from blda.engine.trainer import Batches
from blda.models.hrda import HRDA
from blda.models.output import Output
from blda.models.weights.external_checkpoint import ExternalCheckpoint, segmenter_names
from blda.selftraining.augmentation import unchanged
from blda.selftraining.criterion import Criterion
from blda.selftraining.masked_consistency import MaskedConsistency
from blda.selftraining.masking import Augment
from blda.selftraining.mixing import ClassMix
from blda.selftraining.pseudo_labels import pseudo_labels
from blda.selftraining.teacher import Teacher
from recorded_steps import CONFIGS, DETAIL, FEATURES, FUSED, KNOWN, PARTS, RecordedSteps
from synthetic import NoEvaluation

LIMITS = {"losses": 5e-5, "student_change": 1e-2, "teacher_change": 1e-2, "pseudo_weight": 1e-3}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("file", type=Path)
    arguments.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = arguments.parse_args()
    if given.device == "cpu":
        os.environ["ACCELERATE_USE_CPU"] = "true"
    try:
        report = replayed(RecordedSteps.read(given.file))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {given.file}: {error}")
    largest = {
        "losses": max(report["losses"].values()),
        "student_change": report["student"]["relative_change"],
        "teacher_change": report["teacher"]["relative_change"],
        "pseudo_weight": report["pseudo_weight"],
    }
    above = [name for name, limit in LIMITS.items() if not largest[name] <= limit]
    print(json.dumps({"file": given.file.name, **report, "largest": largest, "above_limit": above}, indent=1))
    sys.exit(bool(above))


def replayed(recorded: RecordedSteps) -> dict[str, object]:
    """Run the recorded steps and compare."""
    run = Replay(recorded)
    weights = torch.stack(run.pseudo_weights) - torch.as_tensor(recorded.arrays["pseudo_weight"])
    return {
        "network": f"{'HRDA' if recorded.two_resolutions else 'DAFormer'}{', masked' if recorded.masked else ''}",
        "steps": len(run.losses),
        "losses": losses_apart(run.losses, recorded.losses),
        "student": weights_apart(run.ended.student, recorded, "final"),
        "teacher": weights_apart(run.ended.method.teacher.model, recorded, "teacher"),
        "pseudo_weight": rounded(weights.abs().max()),
        "not_compared": [name for name in recorded.loss_names if name not in KNOWN],
    }


def losses_apart(own: Sequence[Mapping[str, float]], recorded: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Largest difference of each loss over the steps; a mean over no pixel is NaN in the recording and 0 here."""

    def apart(name: str) -> float:
        pairs = ((a[name], b[name]) for a, b in zip(own, recorded, strict=True))
        return rounded(max(abs(mine - (0 if math.isnan(theirs) else theirs)) for mine, theirs in pairs))

    return {name: apart(name) for name in recorded[0] if name in KNOWN}


def weights_apart(network: nn.Module, recorded: RecordedSteps, kind: str) -> dict[str, object]:
    """Norm of the parameters' difference relative to their recorded change, and the parameters that differ most."""
    own = dict(network.named_parameters())
    start, end = (segmenter_names(recorded.weights(which)) for which in ("w", kind))
    if own.keys() - end.keys():
        raise ValueError(f"{kind}/* has no {', '.join(sorted(own.keys() - end.keys()))}")
    apart = {name: (value.detach().cpu() - end[name]).double().norm() for name, value in own.items()}
    moved = {name: (end[name] - start[name]).double().norm() for name in own}
    farthest = sorted(own, key=lambda name: -apart[name])[:5]
    difference, change = (torch.stack(list(each.values())).norm() for each in (apart, moved))
    listed = {name: rounded(apart[name] / moved[name].clamp_min(1e-12)) for name in farthest}
    return {"relative_change": rounded(difference / change), "farthest": listed}


def rounded(number: Tensor | float) -> float:
    """Round to three significant digits."""
    return float(f"{float(number):.3g}")


class Replay:
    """Image run that takes the recorded steps, with the recorded batches and draws.

    ended: the trainer after the steps. losses, pseudo_weights: one entry per step.
    """

    def __init__(self, recorded: RecordedSteps) -> None:
        self.recorded = recorded
        self.losses: list[dict[str, float]] = []
        self.pseudo_weights: list[Tensor] = []
        self._parts: list[float] = []
        with tempfile.TemporaryDirectory() as folder:
            encoder, prefix = Path(folder) / "encoder.pth", "backbone."
            weights = recorded.weights("w")
            torch.save({k.removeprefix(prefix): t for k, t in weights.items() if k.startswith(prefix)}, encoder)
            self.config = loading.load(CONFIGS / "gta2cs.yaml", Config, recorded.overrides(encoder))
            self.ended = self._run().trainer(self.config.method, Path(folder))
        batches = self.ended.batches(0)
        # Flash attention rounds gradients that are exactly 0, of queries with a single key, to tiny ones, which Adam
        # turns into whole steps.
        with sdpa_kernel(SDPBackend.MATH):
            for _ in recorded.losses:
                self.ended.train_step(batches)
                self.losses.append(self._heard(self.ended.method.numbers()))

    def _run(self) -> Run:
        config, recorded = self.config, self.recorded
        accelerator = runtime.start(config.training.precision)
        batches = RecordedBatches(recorded, accelerator)
        run = image_run(config, accelerator, batches=batches, networks=RecordedNetworks(config, recorded))
        run.evaluation = NoEvaluation(run)
        losses = ListenedLosses(config, accelerator, image_statistics, batches.frequency)
        losses.parts = self._parts
        adaptation = RecordedAdaptation(config, accelerator, losses, self._labels, self._mixer, no_augmentation)
        adaptation.recorded = recorded
        return replace(run, losses=losses, adaptation=adaptation)

    def _labels(self, config: Config) -> BatchLabels:
        """Pseudo-labels weighted by the share of the whole batch."""
        return BatchLabels(config.self_training, self.pseudo_weights)

    def _mixer(self, config: Config) -> ClassMix:
        """Mixer that pastes the recorded classes."""
        return ClassMix(len(class_names(config)), config.seed, even_classes)

    def _heard(self, numbers: Mapping[str, Tensor]) -> dict[str, float]:
        """Terms of the last step's losses under their published names."""
        kinds = (FUSED, DETAIL) if self.recorded.two_resolutions else (FUSED,)
        names = [part + kind for part in PARTS[: 2 + self.recorded.masked] for kind in kinds]
        found = dict(zip(names, self._parts, strict=True))
        self._parts.clear()
        if "feature_distance" in numbers:
            found[FEATURES] = self.config.feature_distance.strength * numbers["feature_distance"].item()
        return found


class RecordedBatches:
    """The recorded batches."""

    def __init__(self, recorded: RecordedSteps, accelerator: Accelerator) -> None:
        self.recorded, self.accelerator = recorded, accelerator

    def frequency(self) -> Tensor:
        """Class frequency; unused, because no recorded method weights classes."""
        raise NotImplementedError

    def skipped(self) -> dict[str, int]:
        """Skipped frames: none."""
        return {}

    def batches(self, adapts: bool) -> Batches:
        """Stream of batches."""
        device = self.accelerator.device

        def stream(start: int) -> Iterator[tuple[Sample, Sample]]:
            return ((source.to(device), target.to(device)) for source, target in self.recorded.samples()[start:])

        return stream


class RecordedNetworks(NetworkFactory):
    """The recorded network before the first step."""

    def __init__(self, config: Config, recorded: RecordedSteps) -> None:
        super().__init__(config)
        self.recorded = recorded

    def student(self, pretrained: bool = True) -> nn.Module:
        """The network with the recorded weights."""
        network = super().student(pretrained)
        weights = ExternalCheckpoint(Path("w"), self.recorded.weights("w"), None, None)
        weights.fill(network, "model", class_names(self.config))
        return network

    def teacher(self, student: nn.Module, autocast: Callable[[], AbstractContextManager]) -> Teacher:
        """Copy of the student; from here on the student takes the recorded windows."""
        teacher = super().teacher(student, autocast)
        if isinstance(student, HRDA):
            windows = cycle(self.recorded.windows())
            student.draw_window = lambda _: next(windows)
        return teacher


class ListenedLosses(LossFactory):
    """The configured criteria; their terms are kept in `parts`."""

    parts: list[float]

    def with_detail(self, fused: Criterion, detail: Criterion) -> Criterion:
        """The configured criterion with its terms recorded."""
        hrda = self.config.model.hrda
        share = 0.0 if hrda is None else hrda.strength
        return super().with_detail(Listening(fused, 1 - share, self.parts), Listening(detail, share, self.parts))


class RecordedAdaptation(AdaptationFactory):
    """Adaptation with the recorded mask, without jitter and blur."""

    recorded: RecordedSteps

    def masked(self, mean: Tensor) -> MaskedConsistency | None:
        """Loss of the images with the recorded blocks hidden."""
        masked = super().masked(mean)
        if masked is not None:
            seen = self.recorded.seen().to(mean.device)
            masked.mask = lambda image, draw: torch.where(seen, image, mean)
        return masked


def no_augmentation(config: Config, jitter: Augment) -> Augment:
    """Augment nothing: no jitter, no blur."""
    return unchanged


def even_classes(label: Tensor, classes: int, draw: tuple[int, ...], seed: int) -> Tensor:
    """Choose the even classes for every image: (B, classes) bool."""
    return (torch.arange(classes, device=label.device) % 2 == 0).expand(len(label), -1)


class Listening:
    """Criterion that records its losses, multiplied by their weight in the sum."""

    def __init__(self, criterion: Criterion, share: float, kept: list[float]) -> None:
        self.criterion, self.share, self.kept = criterion, share, kept

    def source_loss(self, output: Tensor | Output, source: Sample) -> Tensor:
        return self._heard(self.criterion.source_loss(output, source))

    def mixed_loss(self, output: Tensor | Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        return self._heard(self.criterion.mixed_loss(output, mixed, pseudo))

    def state(self) -> Mapping[str, nn.Module]:
        return self.criterion.state()

    def numbers(self) -> dict[str, Tensor]:
        return self.criterion.numbers()

    def _heard(self, loss: Tensor) -> Tensor:
        self.kept.append(self.share * loss.item())
        return loss


class BatchLabels:
    """Image labeller with one share of confident pixels for the whole batch, as published; kept: weights so far."""

    def __init__(self, settings: object, kept: list[Tensor]) -> None:
        self.settings, self.kept = settings, kept

    def __call__(self, teacher: Teacher, target: Sample) -> PseudoLabels:
        rows = self.settings.ignore_top, self.settings.ignore_bottom
        probabilities = teacher(target.image).softmax(1)
        counted = pseudo_labels(probabilities, 0.0, *rows, target.trusted)  # weight 1 where anything is trusted
        share = (probabilities.amax(1) >= self.settings.threshold).float().mean()
        pseudo = replace(counted, weight=share * counted.weight)
        self.kept.append(pseudo.weight.cpu())
        return pseudo


if __name__ == "__main__":
    main()
