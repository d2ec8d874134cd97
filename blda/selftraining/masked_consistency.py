"""Masked consistency: learn the teacher's labels of a target image from a masked view of it (MIC, CVPR 2023)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import Sample
from blda.models.output import Output, unused
from blda.selftraining.criterion import Criterion
from blda.selftraining.masking import Augment


class MaskedConsistency:
    """Loss of the student's prediction on masked target images, against the pseudo-labels of the unmasked images.

    mask: masks the images for the student: a `BlockMask` around an augmentation.
    criterion: its `mixed_loss` is the loss; all pixels belong to the target. The published code uses plain
        cross-entropy with the further losses of the network, and the pseudo-labels and weights of the mixed image,
        margins included (lhoyer/MIC: masking_consistency_module.py).
    both: replace the rows of even draws by masked source images with their labels. MIC does so for ACDC and Dark
        Zurich, where a batch of two holds one image of each domain ("separate").
    """

    def __init__(self, mask: Augment, criterion: Criterion, both: bool = False) -> None:
        self.mask, self.criterion, self.both = mask, criterion, both

    def __call__(
        self, student: nn.Module, target: Sample, pseudo: PseudoLabels, source: Sample | None = None
    ) -> Tensor:
        """Return the loss of one forward of the student; source: labelled batch, needed if `both`."""
        unmasked = self._unmasked(source, target, pseudo)
        image = self.mask(unmasked.image, target.draw)
        output = student(image)
        loss = self.criterion.mixed_loss(output, replace(unmasked, image=image), pseudo)
        return loss + unused(output.density, output.projected) if isinstance(output, Output) else loss

    def _unmasked(self, source: Sample | None, target: Sample, pseudo: PseudoLabels) -> Mixed:
        """Return the images before masking, each wholly of one domain."""
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
