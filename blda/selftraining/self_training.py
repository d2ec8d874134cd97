"""Self-training on mixed images, the method of the paper on one page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import Sample
from blda.selftraining.criterion import Criterion
from blda.selftraining.masking import Augment
from blda.selftraining.mixing import ClassMix
from blda.selftraining.teacher import Teacher

PseudoLabeler = Callable[[Teacher, Sample], PseudoLabels]
Mixer = Callable[[Sample, Sample, PseudoLabels], Mixed]
Consistency = Callable[[nn.Module, Sample, PseudoLabels, Sample], Tensor]


class Diagnostics(Protocol):
    """Figures and validation numbers of what a criterion learns beside the network."""

    def figures(self) -> dict[str, Tensor]: ...

    def validation(self, scores: Mapping[str, float]) -> dict[str, float]: ...


@dataclass(frozen=True)
class Snapshot:
    """What the log wants of the last step; no more of it is kept alive."""

    image: Tensor
    label: Tensor
    weight: Tensor
    mixed: Mixed


class SelfTraining:
    """EMA teacher, pseudo-labels, ClassMix, source and mixed loss (METHOD 6); balanced if `criterion` is.

    student: the wrapped model, so that gradients are averaged over processes. pseudo_labeler: makes pseudo-labels of
    the clean target. num_classes: C. seed: of everything drawn. burn_in: steps on the source alone first, for networks
    that start without pretrained weights: their first pseudo-labels are noise. mixer: makes of (source, target,
    pseudo) what the second loss is of; None for ClassMix. masked: a third loss, of (student, target, pseudo, source);
    None for none. diagnostics: draws the criterion's statistics and compares them with labels; None for a criterion
    without.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher,
        pseudo_labeler: PseudoLabeler,
        criterion: Criterion,
        augment: Augment,
        num_classes: int,
        seed: int,
        burn_in: int = 0,
        mixer: Mixer | None = None,
        masked: Consistency | None = None,
        diagnostics: Diagnostics | None = None,
    ) -> None:
        self.student, self.teacher, self.pseudo_labeler, self.criterion = student, teacher, pseudo_labeler, criterion
        self.augment, self.num_classes, self.seed, self.burn_in = augment, num_classes, seed, burn_in
        self.mixer, self.masked = mixer or ClassMix(num_classes, seed), masked
        self.diagnostics = diagnostics
        self.snapshot: Snapshot | None = None

    def losses(self, source: Sample, target: Sample) -> Iterator[tuple[str, Tensor]]:
        """Yield each named loss when its forward is done; the caller runs backward before asking for the next."""
        yield "source", self.criterion.source_loss(self.student(source.image), source)
        if self.teacher.updates < self.burn_in:
            return

        pseudo = self.pseudo_labeler(self.teacher, target)
        mixed = self.mixer(source, target, pseudo)
        self.snapshot = Snapshot(target.image, pseudo.label, pseudo.weight, mixed)
        image = self.augment(mixed.image, target.draw)
        yield "mixed", self.criterion.mixed_loss(self.student(image), mixed, pseudo)
        if self.masked is not None:
            yield "masked", self.masked(self.student, target, pseudo, source)

    def after_step(self, student: nn.Module) -> None:
        """Move the teacher; student: the bare model, after the optimizer's step."""
        self.teacher.update(student)

    def numbers(self) -> dict[str, Tensor]:
        """What to log of the last step, scalars and values per class (C,)."""
        if self.snapshot is None:
            return {}
        label, weight = self.snapshot.label, self.snapshot.weight
        share = torch.bincount(label.flatten(), minlength=self.num_classes) / label.numel()
        return {"pseudo_label/share": share, "pseudo_label/weight": weight.mean(), **self.criterion.numbers()}

    def pictures(self) -> dict[str, Tensor]:
        """The first image of the last step: images (3, H, W), label maps (H, W) int64, weights (H, W) float."""
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
        """Draw the criterion's statistics as images (3, H, W) uint8; none without diagnostics."""
        return {} if self.diagnostics is None else self.diagnostics.figures()

    def validation(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Compare the criterion's statistics with the scores of an evaluation; nothing without diagnostics."""
        return {} if self.diagnostics is None else self.diagnostics.validation(scores)

    def state(self) -> dict[str, nn.Module]:
        """What must survive a restart, by name."""
        return {"teacher": self.teacher, **self.criterion.state()}
