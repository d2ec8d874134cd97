"""Masked consistency: the teacher's labels of a whole target image, learnt from a part of it (MIC, CVPR 2023)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from blda.data.sample import Sample
from blda.labels import PseudoLabels
from blda.losses import Criterion
from blda.masking import Augment
from blda.mixing import Mixed
from blda.models.output import Output


class MaskedConsistency:
    """What the student says of a masked target image, held to the pseudo-labels and weights of the clean one.

    mask: makes the image that the student sees, a `BlockMask` around an augmentation. criterion: what its `mixed` says
    of it, all of its pixels the target's. Published is plain cross-entropy with the network's own further losses, and
    the pseudo-labels of the mixed image, margins included (lhoyer/MIC: masking_consistency_module.py).
    """

    def __init__(self, mask: Augment, criterion: Criterion) -> None:
        self.mask, self.criterion = mask, criterion

    def __call__(self, student: nn.Module, target: Sample, pseudo: PseudoLabels) -> Tensor:
        """The loss of one forward of the student."""
        image = self.mask(target.image, target.draw)
        none = torch.zeros_like(pseudo.label, dtype=torch.bool)
        output = student(image)
        loss = self.criterion.mixed(output, Mixed(image, pseudo.label, pseudo.weight, none), pseudo)
        if isinstance(output, Output) and output.density is not None:
            # Several processes wait for a gradient of every parameter, those of an unused regression too.
            loss = loss + 0 * output.density.sum()
        return loss
