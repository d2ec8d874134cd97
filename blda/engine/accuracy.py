"""Accuracy of a classifier, class by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from blda.data.protocols import Protocol
from blda.data.sample import IGNORE, Sample
from blda.engine import bias


class ClassAccuracy:
    """Share of every class's images that are recognised, in percent; as `MeanIoU` for whole images.

    Every number stands under its protocol's name; those of the first also stand without, as the run's own.
    """

    def __init__(self, classes: Sequence[str], protocols: Sequence[Protocol]) -> None:
        self.classes, self.protocols = tuple(classes), tuple(protocols)
        self.counts = torch.zeros(len(self.classes), len(self.classes), dtype=torch.float64)

    def update(self, sample: Sample, logits: Tensor, predict: Callable[[Tensor], Tensor]) -> None:
        """logits: (B, C) for a sample with labels (B,)."""
        label = sample.label
        if label is None:
            raise ValueError(f"{sample.name[0]} has no label; evaluate on a labelled data set")
        counted = label != IGNORE
        pair = label[counted] * len(self.classes) + logits.argmax(1)[counted]
        self.counts = self.counts.to(label.device)
        self.counts += torch.bincount(pair, minlength=len(self.classes) ** 2).view_as(self.counts)

    def compute(self) -> dict[str, float]:
        """mAcc (mean over the classes that have images: the field's number), std over these, accuracy over all images,
        acc/CLASS of the first protocol, then those of all under PROTOCOL/; bias/CLASS as a fraction."""
        counts, scores = self.counts.cpu(), {}
        for index, protocol in enumerate(self.protocols):
            numbers = self._scores(protocol, counts)
            scores.update(numbers if index == 0 else {})
            scores.update({f"{protocol.name}/{key}": value for key, value in numbers.items()})
        return {**scores, **bias.scores(counts, self.classes)}

    def _scores(self, protocol: Protocol, counts: Tensor) -> dict[str, float]:
        own = {k: v for k, v in protocol.scores(counts, self.classes).items() if k.startswith("acc/") or k == "mAcc"}
        known = [value for key, value in own.items() if key.startswith("acc/") and not math.isnan(value)]
        total = counts.sum().item()
        return {
            "mAcc": own.pop("mAcc"),
            "std": float(np.std(known)) if known else math.nan,
            "accuracy": 100 * counts.trace().item() / total if total else math.nan,
            **own,
        }
