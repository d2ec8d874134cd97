"""Distance to frozen foundation features on both domains, through a small head (VFM-UDA++, Englert and Dubbelman 2025).

Source: github.com/tue-mps/vfm-uda-plusplus, training/uda/uda.py. Theirs differs in one thing: the source has a pass of
its own with weak jitter, where here the pass of the source loss serves both.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import Sample
from blda.models.frozen_features import FrozenFeatures
from blda.models.output import Output, unused
from blda.selftraining.criterion import Criterion
from blda.selftraining.masking import Augment

SMOOTH_L1, COSINE = 0.1, 0.9
"""Shares of the two terms of the distance."""


def distance(predicted: Tensor, fixed: Tensor) -> Tensor:
    """Return 0.1 * smooth L1 + 0.9 * (1 - cosine similarity), the mean over all pixels of the frozen features.

    predicted: projected features of the student, (B, F, h, w), resized bilinearly. fixed: frozen ones, (B, F, h', w').
    """
    predicted = F.interpolate(predicted.float(), fixed.shape[-2:], mode="bilinear", align_corners=False)
    apart = F.smooth_l1_loss(predicted, fixed, reduction="none").mean(1)
    return (SMOOTH_L1 * apart + COSINE * (1 - F.cosine_similarity(predicted, fixed, dim=1))).mean()


class SourceFoundationDistance:
    """Criterion plus the weighted distance on source images.

    criterion: the criterion that this one wraps and adds to.
    frozen: frozen features of images.
    head: the projection of a network with `Output.projected`, which is saved here.
    strength: weight of the distance.
    active: False adds nothing, and only saves the head.
    """

    def __init__(
        self, criterion: Criterion, frozen: FrozenFeatures, head: nn.Module, strength: float, active: bool = True
    ) -> None:
        self.criterion, self.frozen, self.head, self.strength, self.active = criterion, frozen, head, strength, active
        self._last: Tensor | None = None

    def source_loss(self, output: Output, source: Sample) -> Tensor:
        """Return the wrapped criterion's loss of a source batch plus strength * distance."""
        loss = self.criterion.source_loss(output, source)
        if not self.active:
            return loss + unused(output.projected)
        apart = distance(output.projected, self.frozen(source.image))
        self._last = apart.detach()
        return loss + self.strength * apart

    def mixed_loss(self, output: Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """Return the wrapped criterion's loss of a mixed batch."""
        return self.criterion.mixed_loss(output, mixed, pseudo) + unused(output.projected)

    def state(self) -> Mapping[str, nn.Module]:
        """Return the projection and the state of the wrapped criterion."""
        return {"foundation_head": self.head, **self.criterion.state()}

    def numbers(self) -> dict[str, Tensor]:
        """Return the wrapped criterion's numbers and the distance on the last source batch."""
        last = {} if self._last is None else {"foundation_distance": self._last}
        return {**self.criterion.numbers(), **last}


class TargetFoundationDistance:
    """Weighted distance on target images, of a pass of their own: the student sees them augmented, the encoder clean.

    frozen, strength: as for the source. augment: augmentation of the student's images.
    """

    def __init__(self, frozen: FrozenFeatures, strength: float, augment: Augment) -> None:
        self.frozen, self.strength, self.augment = frozen, strength, augment

    def __call__(self, student: nn.Module, target: Sample, pseudo: PseudoLabels, source: Sample) -> Tensor:
        """Return strength * distance of a target batch; pseudo and source are not used."""
        output = student(self.augment(target.image, target.draw))
        rest = unused(output.logits, output.density)
        return self.strength * distance(output.projected, self.frozen(target.image)) + rest
