"""Masked consistency: the teacher's labels of a whole target image, learnt from a part of it (MIC, CVPR 2023)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import Sample
from blda.models.output import Output
from blda.selftraining.criterion import Criterion
from blda.selftraining.masking import Augment


class MaskedConsistency:
    """What the student says of a masked target image, held to the pseudo-labels and weights of the clean one.

    mask: makes the image that the student sees, a `BlockMask` around an augmentation. criterion: what its `mixed` says
    of it, all of its pixels the target's. Published is plain cross-entropy with the network's own further losses, and
    the pseudo-labels of the mixed image, margins included (lhoyer/MIC: masking_consistency_module.py).
    both: show source images with their labels in every other row, those of even draws; MIC does for ACDC and Dark
    Zurich, where a batch of two is one of each ("separate").
    """

    def __init__(self, mask: Augment, criterion: Criterion, both: bool = False) -> None:
        self.mask, self.criterion, self.both = mask, criterion, both

    def __call__(
        self, student: nn.Module, target: Sample, pseudo: PseudoLabels, source: Sample | None = None
    ) -> Tensor:
        """The loss of one forward of the student. source: the labelled batch, where both domains are shown."""
        whole = self._shown(source, target, pseudo)
        image = self.mask(whole.image, target.draw)
        output = student(image)
        loss = self.criterion.mixed_loss(output, replace(whole, image=image), pseudo)
        if isinstance(output, Output) and output.density is not None:
            # Several processes wait for a gradient of every parameter, those of an unused regression too.
            loss = loss + 0 * output.density.sum()
        return loss

    def _shown(self, source: Sample | None, target: Sample, pseudo: PseudoLabels) -> Mixed:
        """The images before masking, each wholly of one domain."""
        if not self.both:
            return Mixed(target.image, pseudo.label, pseudo.weight, torch.zeros_like(pseudo.label, dtype=torch.bool))
        rows = torch.tensor([number % 2 == 0 for number in target.draw]).to(target.image.device, non_blocking=True)
        rows = rows[:, None, None]
        return Mixed(
            torch.where(rows[:, None], source.image, target.image),
            torch.where(rows, source.label, pseudo.label),
            torch.where(rows, 1.0, pseudo.weight),
            rows.expand_as(pseudo.label),
        )
