"""Pseudo-labels of single images, made from the teacher's prediction."""

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
    """Make the pseudo-labels of images (METHOD 6): the likeliest class, weighted by the share of confident pixels.

    probabilities: the teacher's, (B, C, H, W).
    threshold: smallest probability of the likeliest class at which a pixel is confident.
    ignore_top, ignore_bottom: number of rows that get weight 0 (rectification artifacts, ego vehicle).
    trusted: (B, H, W) bool; other pixels get weight 0 too, see `Sample`.
    keep_probabilities: store `probabilities` in the result, for soft counting.

    The share counts all pixels of one image, so it does not depend on the other images of the batch.
    """
    confidence, label = probabilities.max(1)
    share = (confidence >= threshold).float().mean((1, 2), keepdim=True)
    height = label.shape[-2]
    rows = torch.arange(height, device=label.device)
    kept = ((rows >= ignore_top) & (rows < height - ignore_bottom))[:, None].expand_as(label)
    weight = share * (kept if trusted is None else kept & trusted)
    return PseudoLabels(label, weight, probabilities=probabilities if keep_probabilities else None)


class TeacherLabels:
    """Pseudo-labeler of single images; `pseudo_labels` documents the parameters."""

    def __init__(
        self, threshold: float = 0.968, ignore_top: int = 0, ignore_bottom: int = 0, keep_probabilities: bool = True
    ) -> None:
        self.threshold, self.ignore_top, self.ignore_bottom = threshold, ignore_top, ignore_bottom
        self.keep_probabilities = keep_probabilities

    def __call__(self, teacher: Callable[[Tensor], Tensor], target: Sample) -> PseudoLabels:
        """Label a target batch.

        teacher: predicts logits (B, C, H, W) of images (B, 3, H, W).
        target: the batch without photometric augmentation.
        """
        probabilities = teacher(target.image).softmax(1)
        rows = self.ignore_top, self.ignore_bottom
        return pseudo_labels(probabilities, self.threshold, *rows, target.trusted, self.keep_probabilities)


class ImageLabels:
    """Pseudo-labeler of image classifiers: the likeliest class, with weight 1 if its probability reaches `threshold`.

    Other images get weight 0.
    """

    def __init__(self, threshold: float = 0.968) -> None:
        self.threshold = threshold

    def __call__(self, teacher: Callable[[Tensor], Tensor], target: Sample) -> PseudoLabels:
        """Label a target batch: label and weight are (B,).

        teacher: predicts logits (B, C) of images (B, 3, H, W).
        target: the batch without photometric augmentation.
        """
        confidence, label = teacher(target.image).softmax(1).max(1)
        return PseudoLabels(label, (confidence >= self.threshold).float())
