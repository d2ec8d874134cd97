"""Pseudo-labels of single images, from the teacher's prediction."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from blda.data.batches import PseudoLabels
from blda.data.sample import Sample


def pseudo_labels(
    probabilities: Tensor,
    threshold: float,
    ignore_top: int = 0,
    ignore_bottom: int = 0,
    trusted: Tensor | None = None,
    keep_probabilities: bool = True,
) -> PseudoLabels:
    """The image rule (METHOD 6): the likeliest class, weighted by the image's share of confident pixels.

    probabilities: (B, C, H, W). threshold: a pixel is confident from this probability on. ignore_top, ignore_bottom:
    rows of weight 0 (sky reflections and the own car). trusted: (B, H, W) bool, all others weigh 0 too; see `Sample`.
    keep_probabilities: keep the probabilities as their belief. The share is per image, so that it does not depend on
    which images share a batch, and counts every pixel.
    """
    confidence, label = probabilities.max(1)
    share = (confidence >= threshold).float().mean((1, 2), keepdim=True)
    height = label.shape[-2]
    rows = torch.arange(height, device=label.device)
    kept = ((rows >= ignore_top) & (rows < height - ignore_bottom))[:, None].expand_as(label)
    weight = share * (kept if trusted is None else kept & trusted)
    return PseudoLabels(label, weight, probabilities=probabilities if keep_probabilities else None)


class TeacherLabels:
    """Pseudo-labels from one image at a time; see `pseudo_labels` for what they are made by."""

    def __init__(
        self, threshold: float = 0.968, ignore_top: int = 0, ignore_bottom: int = 0, keep_probabilities: bool = True
    ) -> None:
        self.threshold, self.ignore_top, self.ignore_bottom = threshold, ignore_top, ignore_bottom
        self.keep_probabilities = keep_probabilities

    def __call__(self, teacher: Callable[[Tensor], Tensor], target: Sample) -> PseudoLabels:
        """teacher: image (B, 3, H, W) -> logits (B, C, H, W). target: the clean, not augmented batch."""
        probabilities = teacher(target.image).softmax(1)
        rows = self.ignore_top, self.ignore_bottom
        return pseudo_labels(probabilities, self.threshold, *rows, target.trusted, self.keep_probabilities)


class ImageLabels:
    """Pseudo-labels of whole images: the likeliest class, of weight 1 from a probability of `threshold` on, else 0."""

    def __init__(self, threshold: float = 0.968) -> None:
        self.threshold = threshold

    def __call__(self, teacher: Callable[[Tensor], Tensor], target: Sample) -> PseudoLabels:
        """teacher: image (B, 3, H, W) -> logits (B, C). target: the clean, not augmented batch. Both parts: (B,)."""
        confidence, label = teacher(target.image).softmax(1).max(1)
        return PseudoLabels(label, (confidence >= self.threshold).float())
