"""Self-training on mixed images: one training step of the paper's method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import torch
from torch import Tensor, nn

from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import Sample
from blda.selftraining.criterion import Criterion
from blda.selftraining.fixed_teacher import FixedTeacher
from blda.selftraining.masking import Augment
from blda.selftraining.mixing import ClassMix
from blda.selftraining.teacher import Teacher

PseudoLabeler = Callable[[Teacher | FixedTeacher, Sample], PseudoLabels]
"""(teacher, target batch) -> pseudo-labels of the target batch."""

Mixer = Callable[[Sample, Sample, PseudoLabels], Mixed]
"""(source, target, pseudo-labels of the target) -> mixed batch; its labels and weights are aligned with its images."""

Consistency = Callable[[nn.Module, Sample, PseudoLabels, Sample], Tensor]
"""(student, target, pseudo-labels of the target, source) -> loss."""


class Diagnostics(Protocol):
    """Figures and validation numbers of the statistics that a criterion estimates."""

    def figures(self) -> dict[str, Tensor]:
        """Draw figures as images (3, H, W) uint8, by name."""

    def validation(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Compare the statistics with the scores of an evaluation; return numbers by name."""


@dataclass(frozen=True)
class Snapshot:
    """Tensors of the last step that the log shows. No others are kept in memory.

    image: target images, (B, 3, H, W). label, weight: their pseudo-labels and pixel weights, (B, H, W).
    mixed: the mixed batch before augmentation.
    """

    image: Tensor
    label: Tensor
    weight: Tensor
    mixed: Mixed


class SelfTraining:
    """Self-training with EMA teacher, pseudo-labels and ClassMix (METHOD 6); balanced if `criterion` is.

    student: the DDP-wrapped model, so that gradients are averaged over processes.
    teacher: moving average of the student, or a trained network; it predicts the target.
    pseudo_labeler: makes pseudo-labels of the target batch before photometric augmentation.
    criterion: losses of the source batch and of the mixed batch.
    augment: photometric augmentation of the mixed images.
    num_classes: number of classes C.
    seed: seed of the default mixer.
    burn_in: number of first steps on the source alone. A network that starts without pretrained weights makes noise
        of its first pseudo-labels.
    mixer: combines (source, target, pseudo) into the mixed batch; None for `ClassMix`.
    further: more losses, of (student, target, pseudo, source), by the name under which they are logged, such as
        `MaskedConsistency`.
    diagnostics: draws the criterion's statistics and compares them with labels; None for a criterion without any.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher | FixedTeacher,
        pseudo_labeler: PseudoLabeler,
        criterion: Criterion,
        augment: Augment,
        num_classes: int,
        seed: int,
        burn_in: int = 0,
        mixer: Mixer | None = None,
        diagnostics: Diagnostics | None = None,
        further: Mapping[str, Consistency] = MappingProxyType({}),
    ) -> None:
        self.student, self.teacher, self.pseudo_labeler, self.criterion = student, teacher, pseudo_labeler, criterion
        self.augment, self.num_classes, self.seed, self.burn_in = augment, num_classes, seed, burn_in
        self.mixer = mixer or ClassMix(num_classes, seed)
        self.diagnostics, self.further = diagnostics, further
        self.snapshot: Snapshot | None = None

    def losses(self, source: Sample, target: Sample) -> Iterator[tuple[str, Tensor]]:
        """Yield (name, loss) after each forward; the caller must run its backward before it asks for the next."""
        yield "source", self.criterion.source_loss(self.student(source.image), source)
        if self.teacher.updates < self.burn_in:
            return

        pseudo = self.pseudo_labeler(self.teacher, target)
        mixed = self.mixer(source, target, pseudo)
        self.snapshot = Snapshot(target.image, pseudo.label, pseudo.weight, mixed)
        image = self.augment(mixed.image, target.draw)
        yield "mixed", self.criterion.mixed_loss(self.student(image), mixed, pseudo)
        for name, loss in self.further.items():
            yield name, loss(self.student, target, pseudo, source)

    def after_step(self, student: nn.Module) -> None:
        """Update the teacher after the optimizer's step; student: the model without its DDP wrapper."""
        self.teacher.update(student)

    def numbers(self) -> dict[str, Tensor]:
        """Return the numbers of the last step to log: scalars, and values per class (C,)."""
        if self.snapshot is None:
            return {}
        label, weight = self.snapshot.label, self.snapshot.weight
        share = torch.bincount(label.flatten(), minlength=self.num_classes) / label.numel()
        return {"pseudo_label/share": share, "pseudo_label/weight": weight.mean(), **self.criterion.numbers()}

    def pictures(self) -> dict[str, Tensor]:
        """Return the first row of the last step: images (3, H, W), label maps (H, W) int64, weights (H, W) float."""
        if self.snapshot is None:
            return {}
        mixed = self.snapshot.mixed
        return {
            "target": self.snapshot.image[0],
            "pseudo_label": self.snapshot.label[0],
            "weight": self.snapshot.weight[0],
            "mixed": mixed.image[0],
            "mixed_label": mixed.label[0],
        }

    def figures(self) -> dict[str, Tensor]:
        """Draw the criterion's statistics as images (3, H, W) uint8; empty without diagnostics."""
        return {} if self.diagnostics is None else self.diagnostics.figures()

    def validation(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Compare the criterion's statistics with the scores of an evaluation; empty without diagnostics."""
        return {} if self.diagnostics is None else self.diagnostics.validation(scores)

    def state(self) -> dict[str, nn.Module | FixedTeacher]:
        """Return what a checkpoint must save, by name."""
        return {"teacher": self.teacher, **self.criterion.state()}
