"""Accuracy of a classifier, class by class."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from blda.data.protocols import Protocol
from blda.engine.metrics import Confusion


class ClassAccuracy(Confusion):
    """Share of every class's images that are recognised, in percent.

    mAcc is the mean over the classes that have images (the field's number), std is over these, accuracy over all
    images; acc/CLASS.
    """

    def numbers(self, protocol: Protocol, counts: Tensor) -> dict[str, float]:
        """What one protocol makes of the counts (C, C)."""
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
