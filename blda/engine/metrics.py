"""Numbers measured on labelled images."""

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
    """A sum over images: `counts` add over processes, `compute` turns the sum into named numbers."""

    counts: Tensor

    def update(self, sample: Sample, logits: Tensor, predict: Callable[[Tensor], Tensor]) -> None:
        """Add a batch; predict gives the logits of further images of the sample, such as its context."""

    def compute(self) -> dict[str, float]: ...


def headline(scores: Mapping[str, float]) -> str:
    """The number that a run is judged by: mIoU, or mAcc where whole images are classified."""
    return "mIoU" if "mIoU" in scores else "mAcc"


class Confusion:
    """Counts of (truth, prediction), scored by one or several named protocols.

    Every number stands under its protocol's name; those of the first also stand without, as the run's own.
    """

    def __init__(self, classes: Sequence[str], protocols: Sequence[Protocol]) -> None:
        self.classes, self.protocols = tuple(classes), tuple(protocols)
        self.counts = torch.zeros(len(self.classes), len(self.classes), dtype=torch.float64)

    def update(self, sample: Sample, logits: Tensor, predict: Callable[[Tensor], Tensor]) -> None:
        """logits: (B, C, h, w), brought to the size of the label (B, H, W) before the largest is taken; or (B, C), of
        whole images with labels (B,)."""
        label = sample.label
        if label is None:
            raise ValueError(f"{sample.name[0]} has no label; evaluate on a labelled data set")
        if logits.shape[2:] != label.shape[1:]:
            logits = F.interpolate(logits, label.shape[-2:], mode="bilinear", align_corners=False)
        label, counted = class_labels(label, len(self.classes))
        if not (counted | (label == IGNORE)).all():  # the counting below waits for the device anyway
            raise ValueError(f"{sample.name[0]} has a label that is no class; check the label ids")
        pair = label[counted] * len(self.classes) + logits.argmax(1)[counted]
        self.counts = self.counts.to(label.device)
        self.counts += torch.bincount(pair, minlength=len(self.classes) ** 2).view_as(self.counts)

    def compute(self) -> dict[str, float]:
        """The numbers of the first protocol, those of all under PROTOCOL/, and bias/CLASS, a fraction that knows no
        protocol."""
        counts = self.counts.cpu()
        scores = measured_bias.scores(counts, self.classes)
        for index, protocol in enumerate(self.protocols):
            numbers = self.numbers(protocol, counts)
            scores.update(numbers if index == 0 else {})
            scores.update({f"{protocol.name}/{key}": value for key, value in numbers.items()})
        return scores

    def numbers(self, protocol: Protocol, counts: Tensor) -> dict[str, float]:
        """What one protocol makes of the counts (C, C)."""
        return protocol.scores(counts, self.classes)


class MeanIoU(Confusion):
    """IoU and accuracy per class and their means, over pixels: mIoU, mAcc, iou/CLASS, acc/CLASS, std."""
