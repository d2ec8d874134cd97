"""Measures of how predictions behave over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from blda.data.sample import Sample
from blda_video.data.sample import Clip
from blda_video.flow.geometry import pull_labels


class TemporalConsistency:
    """Does the prediction stay on the surface? Prediction of the key against that of its neighbours, along the flow.

    A neighbour's prediction is pulled to the key frame from the nearest pixel and compared where the flow is valid
    (UVDA's `pred_pred`). It needs no labels, and says nothing of being right: a constant prediction is consistent.

    classes: the names of the C classes. counts: (C, C) float64 pixels, key's class x neighbour's, additive over
    batches and processes. Samples without context count nothing.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.counts = torch.zeros(len(self.classes), len(self.classes), dtype=torch.float64)

    @torch.no_grad()
    def update(self, sample: Sample, logits: Tensor, predict: Callable[[Tensor], Tensor]) -> None:
        """sample: evaluated batch. logits: (B, C, h, w) of its image. predict: image -> logits, for the context."""
        if not isinstance(sample, Clip):
            return
        self.counts = self.counts.to(logits.device)
        size, channels = sample.image.shape[-2:], len(self.classes)
        for k in range(len(sample.offset)):
            key = _classes(logits, size)
            flow, valid = sample.flow[:, k], sample.valid[:, k]
            other = pull_labels(_classes(predict(sample.context[:, k]), size), flow, fill=channels)
            # Pixels that are not compared go to a spare cell.
            cell = torch.where(valid & (other < channels), key * channels + other, channels**2)
            pixels = torch.bincount(cell.flatten(), minlength=channels**2 + 1)[: channels**2]
            self.counts += pixels.view(channels, channels)

    def compute(self) -> dict[str, float]:
        """In percent, NaN when no pixel was compared.

        'consistency': share of compared pixels of one class in both frames; 'temporal_mIoU': mean over the classes
        predicted in either frame of the IoU between both predictions.
        """
        agreed = self.counts.diagonal()
        union = self.counts.sum(0) + self.counts.sum(1) - agreed
        iou = (agreed / union)[union > 0]
        return {
            "consistency": 100 * float(agreed.sum() / self.counts.sum()),
            "temporal_mIoU": 100 * float(iou.mean()),
        }


def _classes(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) -> likeliest class (B, H, W) at `size`."""
    if logits.shape[-2:] != size:
        logits = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    return logits.argmax(1)
