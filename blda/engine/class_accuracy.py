"""Accuracy of a classifier for each class."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from blda.data.protocols import Protocol
from blda.engine.metrics import Confusion


class ClassAccuracy(Confusion):
    """Share of correctly classified images, in percent.

    mAcc: mean over the classes that have images (the field's number). std: deviation over these classes.
    accuracy: share over all images. acc/CLASS: share over the images of one class.
    """

    def numbers(self, protocol: Protocol, counts: Tensor) -> dict[str, float]:
        """Compute the numbers of one protocol from the counts (C, C)."""
        scores = super().numbers(protocol, counts)
        own = {key: value for key, value in scores.items() if key.startswith("acc/")}
        known = [value for value in own.values() if not math.isnan(value)]
        total = counts.sum().item()
        return {
            **{key: scores[key] for key in ("mAcc", "mAcc_classes", "protocol_classes")},
            "std": float(np.std(known)) if known else math.nan,
            "accuracy": 100 * counts.trace().item() / total if total else math.nan,
            **own,
        }
