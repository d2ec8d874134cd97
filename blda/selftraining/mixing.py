"""Mixing of two domains: ClassMix pastes half of a source image's classes; `WholeImages` mixes nothing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch import distributed as dist
from torch.nn import functional as F

from blda.data import seeding
from blda.data.batches import Mixed, PseudoLabels
from blda.data.class_labels import class_labels
from blda.data.sample import Sample


def chosen_classes(label: Tensor, num_classes: int, draw: tuple[int, ...], seed: int) -> Tensor:
    """Choose half of the classes present in each label map, rounded up: (B, classes) bool.

    label: label map, (B, H, W). The choice for row b depends on (seed, draw[b]) and the classes present.
    """
    label, known = class_labels(label, num_classes)
    columns = torch.where(known, label, num_classes).flatten(1)
    present = torch.zeros(len(label), num_classes + 1, dtype=torch.bool, device=label.device)
    present = present.scatter_(1, columns, True)[:, :num_classes]
    score = seeding.uniform(seed, "classmix", draw, num_classes).to(label.device, non_blocking=True)
    rank = torch.where(present, score, 2.0).argsort(1).argsort(1)
    return present & (rank < (present.sum(1, keepdim=True) + 1) // 2)


def chosen_classes_of_batch(label: Tensor, num_classes: int, draw: tuple[int, ...], seed: int) -> Tensor:
    """Choose, for each image, half of the labels present in the whole batch, rounded up: (B, classes + 1) bool.

    This is the published choice (lhoyer/MIC: dacs_transforms.py). An image may lack some of the labels chosen for it.
    The last column is IGNORE: ignored pixels are pasted if it is chosen. The labels present are those of the global
    batch, over all processes.

    label: label map, (B, H, W). The choice for row b depends on (seed, draw[b]) and the labels present.
    """
    label, known = class_labels(label, num_classes)
    present = torch.zeros(num_classes + 1, dtype=torch.int32, device=label.device)
    present = present.scatter_(0, torch.where(known, label, num_classes).flatten(), 1)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(present, dist.ReduceOp.MAX)
    score = seeding.uniform(seed, "classmix", draw, num_classes + 1).to(label.device, non_blocking=True)
    rank = torch.where(present > 0, score, 2.0).argsort(1).argsort(1)
    return (present > 0) & (rank < (present.sum() + 1) // 2)


Choice = Callable[[Tensor, int, tuple[int, ...], int], Tensor]
"""Choice of the labels to paste: (label, num_classes, draw, seed) -> (B, classes) bool, or (B, classes + 1) bool whose
last column is IGNORE."""


def mix(
    source: Sample,
    target: Sample,
    pseudo: PseudoLabels,
    num_classes: int,
    seed: int,
    choose: Choice = chosen_classes,
) -> Mixed:
    """Paste the chosen classes of each source image onto the target image of the same row (METHOD 6).

    choose: chooses the classes, depending on (seed, target.draw) and the source's labels. The pseudo-labels must be
    aligned with the target image, pixel by pixel. Source pixels have weight 1.
    """
    chosen = choose(source.label, num_classes, target.draw, seed)
    lookup = F.pad(chosen, (0, num_classes + 1 - chosen.shape[1]))
    label, known = class_labels(source.label, num_classes)
    index = torch.where(known, label, num_classes)
    from_source = lookup.gather(1, index.flatten(1)).view_as(index)
    return Mixed(
        torch.where(from_source[:, None], source.image, target.image),
        torch.where(from_source, label, pseudo.label),
        torch.where(from_source, 1.0, pseudo.weight),
        from_source,
    )


class ClassMix:
    """Mixer that calls `mix` with a fixed number of classes, seed and choice of classes."""

    def __init__(self, num_classes: int, seed: int, choose: Choice = chosen_classes) -> None:
        self.num_classes, self.seed, self.choose = num_classes, seed, choose

    def __call__(self, source: Sample, target: Sample, pseudo: PseudoLabels) -> Mixed:
        """Mix the samples of a source and a target batch; pseudo: pseudo-labels of the target batch."""
        return mix(source, target, pseudo, self.num_classes, self.seed, self.choose)


class WholeImages:
    """Mixer for image classifiers: keeps the target images whole, because an image has one label."""

    def __call__(self, source: Sample, target: Sample, pseudo: PseudoLabels) -> Mixed:
        """Return the target images with their pseudo-labels (B,); the source batch is not used."""
        return Mixed(target.image, pseudo.label, pseudo.weight, torch.zeros_like(pseudo.label, dtype=torch.bool))
