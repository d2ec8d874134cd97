"""Metrics on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol as Contract

import torch
from torch import Tensor
from torch.nn import functional as F

from blda.data import measured_bias
from blda.data.class_labels import class_labels
from blda.data.protocols import Protocol
from blda.data.sample import IGNORE, Sample


class Metric(Contract):
    """Sum over images: `counts` add over processes, and `compute` turns the sum into named numbers."""

    counts: Tensor

    def update(self, sample: Sample, logits: Tensor, predict: Callable[[Tensor], Tensor]) -> None:
        """Add a batch. predict: returns the logits of further images of the sample, such as its context."""

    def compute(self) -> dict[str, float]: ...


def headline(scores: Mapping[str, float]) -> str:
    """Return the score that a run is judged by: mIoU, or mAcc for the classification of whole images."""
    return "mIoU" if "mIoU" in scores else "mAcc"


class Confusion:
    """Confusion counts (truth, prediction), scored by one or several named protocols.

    Every score carries its protocol's name; the first protocol's scores are also given without it.
    """

    def __init__(self, classes: Sequence[str], protocols: Sequence[Protocol]) -> None:
        self.classes, self.protocols = tuple(classes), tuple(protocols)
        self.counts = torch.zeros(len(self.classes), len(self.classes), dtype=torch.float64)

    def update(self, sample: Sample, logits: Tensor, predict: Callable[[Tensor], Tensor]) -> None:
        """Count a batch.

        logits: (B, C, h, w), resized to the label (B, H, W) before the argmax; or (B, C) for whole images with labels
        (B,).
        """
        label = sample.label
        if label is None:
            raise ValueError(f"{sample.name[0]} has no label; evaluate on a labelled data set")
        if logits.shape[2:] != label.shape[1:]:
            logits = F.interpolate(logits, label.shape[-2:], mode="bilinear", align_corners=False)
        label, counted = class_labels(label, len(self.classes))
        if not (counted | (label == IGNORE)).all():  # the counting below waits for the device anyway
            raise ValueError(f"{sample.name[0]} has a label outside the run's classes; check the label ids")
        pair = label[counted] * len(self.classes) + logits.argmax(1)[counted]
        self.counts = self.counts.to(label.device)
        self.counts += torch.bincount(pair, minlength=len(self.classes) ** 2).view_as(self.counts)

    def compute(self) -> dict[str, float]:
        """Return the scores of all protocols under PROTOCOL/, those of the first also without the prefix.

        Adds bias/CLASS, a fraction that is independent of protocols.
        """
        counts = self.counts.cpu()
        scores = measured_bias.scores(counts, self.classes)
        for index, protocol in enumerate(self.protocols):
            numbers = self.numbers(protocol, counts)
            scores.update(numbers if index == 0 else {})
            scores.update({f"{protocol.name}/{key}": value for key, value in numbers.items()})
        return scores

    def numbers(self, protocol: Protocol, counts: Tensor) -> dict[str, float]:
        """Compute the scores of one protocol from the counts (C, C)."""
        return protocol.scores(counts, self.classes)


class MeanIoU(Confusion):
    """IoU and accuracy of each class and their means, over pixels: mIoU, mAcc, iou/CLASS, acc/CLASS, std."""
