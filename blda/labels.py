"""Pseudo-labels: what the teacher believes about a target image, and how far it is trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from blda.data.sample import Sample


@dataclass(frozen=True)
class PseudoLabels:
    """label: (B, H, W) int64, a class everywhere. weight: (B, H, W) float32 >= 0, of each pixel in the loss.

    Of whole images both: (B,).
    """

    label: Tensor
    weight: Tensor


def pseudo_labels(probabilities: Tensor, threshold: float, ignore_top: int = 0, ignore_bottom: int = 0) -> PseudoLabels:
    """The image rule (METHOD 6): the likeliest class, weighted by the image's share of confident pixels.

    probabilities: (B, C, H, W). threshold: a pixel is confident from this probability on. ignore_top, ignore_bottom:
    rows of weight 0 (sky reflections and the own car). The share is per image, so that it does not depend on which
    images share a batch.
    """
    confidence, label = probabilities.max(1)
    share = (confidence >= threshold).float().mean((1, 2), keepdim=True)
    height = label.shape[-2]
    rows = torch.arange(height, device=label.device)
    trusted = (rows >= ignore_top) & (rows < height - ignore_bottom)
    return PseudoLabels(label, share * trusted[:, None].expand_as(label))


class TeacherLabels:
    """Pseudo-labels from one image at a time."""

    def __init__(self, threshold: float = 0.968, ignore_top: int = 0, ignore_bottom: int = 0) -> None:
        self.threshold, self.ignore_top, self.ignore_bottom = threshold, ignore_top, ignore_bottom

    def __call__(self, teacher: Callable[[Tensor], Tensor], target: Sample) -> PseudoLabels:
        """teacher: image (B, 3, H, W) -> logits (B, C, H, W). target: the clean, not augmented batch."""
        probabilities = teacher(target.image).softmax(1)
        return pseudo_labels(probabilities, self.threshold, self.ignore_top, self.ignore_bottom)


class ImageLabels:
    """Pseudo-labels of whole images: the likeliest class, of weight 1 from a probability of `threshold` on, else 0."""

    def __init__(self, threshold: float = 0.968) -> None:
        self.threshold = threshold

    def __call__(self, teacher: Callable[[Tensor], Tensor], target: Sample) -> PseudoLabels:
        """teacher: image (B, 3, H, W) -> logits (B, C). target: the clean, not augmented batch. Both parts: (B,)."""
        confidence, label = teacher(target.image).softmax(1).max(1)
        return PseudoLabels(label, (confidence >= self.threshold).float())
