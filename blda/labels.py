"""Pseudo-labels: what the teacher believes about a target image, and how far it is trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from blda.data.sample import Sample


@dataclass(frozen=True)
class PseudoLabels:
    """label: (B, H, W) int64, a class everywhere. weight: (B, H, W) float32 >= 0, of each pixel in the loss.

    belief: (B, C, H, W), the probabilities that the label is the likeliest class of; None where nobody needs them.
    Of whole images: (B,) and (B, C).
    """

    label: Tensor
    weight: Tensor
    belief: Tensor | None = field(default=None, kw_only=True)


def pseudo_labels(
    probabilities: Tensor,
    threshold: float,
    ignore_top: int = 0,
    ignore_bottom: int = 0,
    trusted: Tensor | None = None,
    believed: bool = True,
) -> PseudoLabels:
    """The image rule (METHOD 6): the likeliest class, weighted by the image's share of confident pixels.

    probabilities: (B, C, H, W). threshold: a pixel is confident from this probability on. ignore_top, ignore_bottom:
    rows of weight 0 (sky reflections and the own car). trusted: (B, H, W) bool, all others weigh 0 too; see `Sample`.
    believed: keep the probabilities as their belief. The share is per image, so that it does not depend on which images
    share a batch, and counts every pixel.
    """
    confidence, label = probabilities.max(1)
    share = (confidence >= threshold).float().mean((1, 2), keepdim=True)
    height = label.shape[-2]
    rows = torch.arange(height, device=label.device)
    kept = ((rows >= ignore_top) & (rows < height - ignore_bottom))[:, None].expand_as(label)
    weight = share * (kept if trusted is None else kept & trusted)
    return PseudoLabels(label, weight, belief=probabilities if believed else None)


STRIDES = tuple(1.2207440846057596**-power for power in (1, 2, 3))
"""Steps of a sequence that fills a cube evenly: powers of 1 / g, where g^4 = g + 1 (M. Roberts' R_3, 2018)."""


def drawn(belief: Tensor, number: Tensor | float) -> Tensor:
    """Labels drawn from a belief: (B, C, H, W) -> (B, H, W) int64, class c for a share belief[:, c] of the pixels.

    Drawn by a sequence that fills rows, columns and numbers evenly: no generator, less noise than by chance where
    beliefs are smooth, and each image's labels are a function of its belief and of `number` alone.
    """
    rows, columns = (torch.arange(size, device=belief.device, dtype=torch.float64) for size in belief.shape[-2:])
    level = (rows[:, None] * STRIDES[0] + columns * STRIDES[1] + number * STRIDES[2]) % 1
    reached = belief.cumsum(1) <= level.to(belief.dtype)
    return reached.sum(1).clamp(max=belief.shape[1] - 1)


class TeacherLabels:
    """Pseudo-labels from one image at a time; see `pseudo_labels` for what they are made by."""

    def __init__(
        self, threshold: float = 0.968, ignore_top: int = 0, ignore_bottom: int = 0, believed: bool = True
    ) -> None:
        self.threshold, self.ignore_top, self.ignore_bottom = threshold, ignore_top, ignore_bottom
        self.believed = believed

    def __call__(self, teacher: Callable[[Tensor], Tensor], target: Sample) -> PseudoLabels:
        """teacher: image (B, 3, H, W) -> logits (B, C, H, W). target: the clean, not augmented batch."""
        probabilities = teacher(target.image).softmax(1)
        rows = self.ignore_top, self.ignore_bottom
        return pseudo_labels(probabilities, self.threshold, *rows, target.trusted, self.believed)


class ImageLabels:
    """Pseudo-labels of whole images: the likeliest class, of weight 1 from a probability of `threshold` on, else 0."""

    def __init__(self, threshold: float = 0.968) -> None:
        self.threshold = threshold

    def __call__(self, teacher: Callable[[Tensor], Tensor], target: Sample) -> PseudoLabels:
        """teacher: image (B, 3, H, W) -> logits (B, C). target: the clean, not augmented batch. Both parts: (B,)."""
        confidence, label = teacher(target.image).softmax(1).max(1)
        return PseudoLabels(label, (confidence >= self.threshold).float())
