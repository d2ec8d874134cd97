"""Evaluation protocols: the classes that a benchmark scores, and how. Scores carry their protocol's name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from blda.data.label_map import CITYSCAPES19, CLASS_LISTS


@dataclass(frozen=True)
class Protocol:
    """Scoring rules of a benchmark.

    classes: the scored classes.
    merge: class -> the scored class it counts as, in truth and in prediction.
    kept: classes that are not scored but whose truth stays: a scored class predicted there is a false positive. The
        truth of every other class is dropped (those pixels do not exist).
    drop_predictions: also drop the pixels whose prediction is not a scored class; otherwise they are errors.
    """

    name: str
    classes: tuple[str, ...]
    merge: Mapping[str, str] = field(default_factory=dict)
    drop_predictions: bool = False
    kept: tuple[str, ...] = ()

    def renaming(self, classes: Sequence[str], names: Collection[str]) -> dict[str, str]:
        """Return the renames that an evaluation label table needs because `classes` lack a merged class.

        A run of the 15 VIPER classes has no rider, so its Cityscapes truth must be loaded with rider -> person. A run
        that has rider keeps it apart, and `scores` merges. classes: of the run. names: the data set's class names.
        """
        return {old: new for old, new in self.merge.items() if old not in classes and new in classes and old in names}

    def require(self, classes: Sequence[str]) -> None:
        """Raise ValueError when a run of these classes lacks a scored one."""
        if missing := [name for name in self.classes if name not in classes]:
            raise ValueError(
                f"protocol {self.name} scores {', '.join(missing)}, which the run does not have; "
                "add to the run's classes or choose another protocol"
            )

    def scores(self, confusion: Tensor | np.ndarray, classes: Sequence[str]) -> dict[str, float]:
        """Compute scores in percent from pixel counts.

        confusion: (C, C) tensor on the CPU or array, rows = truth, columns = prediction. classes: the C names.
        Returns mIoU, mAcc, std (population standard deviation of the IoUs); mIoU_classes and mAcc_classes, the number
        of protocol_classes that enter these means; and, per scored class, iou/<name> and acc/<name>.
        IoU = TP / (TP + FP + FN), accuracy = TP / (TP + FN). A class in neither truth nor prediction is nan and enters
        no mean. A class that is absent from the truth but predicted has IoU 0 and accuracy nan.
        Raises ValueError when the run lacks a scored class.
        """
        counts = self._scored(np.asarray(confusion, dtype=np.float64), list(classes))
        hits = np.diag(counts)[: len(self.classes)]
        truth = counts.sum(axis=1)[: len(self.classes)]
        predicted = counts.sum(axis=0)[: len(self.classes)]
        iou = _percent(hits, truth + predicted - hits)
        accuracy = _percent(hits, truth)
        means = {"mIoU": _over(np.mean, iou), "mAcc": _over(np.mean, accuracy), "std": _over(np.std, iou)}
        ious = {f"iou/{name}": float(value) for name, value in zip(self.classes, iou, strict=True)}
        accuracies = {f"acc/{name}": float(value) for name, value in zip(self.classes, accuracy, strict=True)}
        over = {"mIoU_classes": _known(iou), "mAcc_classes": _known(accuracy), "protocol_classes": len(self.classes)}
        return means | ious | accuracies | {name: float(count) for name, count in over.items()}

    def _scored(self, confusion: np.ndarray, classes: list[str]) -> np.ndarray:
        """Return the counts over the scored classes, with one last row and column for all other classes."""
        if confusion.shape != (len(classes), len(classes)):
            raise ValueError(f"confusion of shape {confusion.shape} for {len(classes)} classes; give one name a row")
        self.require(classes)
        scored = {name: i for i, name in enumerate(self.classes)}
        groups = np.zeros((len(classes), len(scored) + 1))
        for row, name in enumerate(classes):
            groups[row, scored.get(self.merge.get(name, name), len(scored))] = 1
        stays = groups[:, -1] == 0
        rows = stays | np.isin(classes, self.kept)
        columns = stays if self.drop_predictions else np.ones_like(stays)
        return groups.T @ (confusion * rows[:, None] * columns) @ groups


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return 100 * np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _over(reduce: Callable[[np.ndarray], np.floating], values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(reduce(known)) if known.size else float("nan")


def _known(values: np.ndarray) -> int:
    return int((~np.isnan(values)).sum())


def protocol_of(classes: Sequence[str], name: str = "all") -> Protocol:
    """Return the protocol that scores every class of the run, with nothing merged or dropped."""
    return Protocol(name, tuple(classes))


_NAMED = (
    Protocol("cityscapes19", CITYSCAPES19),
    Protocol("bdd19", CITYSCAPES19),
    # DAFormer, HRDA, MIC: the mean over these of the scores of a 19-class run (mIoU16 = mIoU19 * 19 / 16).
    Protocol("synthia16", CLASS_LISTS["synthia16"], kept=CITYSCAPES19),
    Protocol("synthia13", CLASS_LISTS["synthia13"], kept=CITYSCAPES19),
    # DA-VSN, TPS, CMOM, SFC, UDASS: their Cityscapes map for VIPER makes riders persons.
    Protocol("viper15", CLASS_LISTS["viper15"], merge={"rider": "person"}),
    # UnifiedVideoDA (its metrics.py also masks by the prediction).
    Protocol("viper15_uvda", CLASS_LISTS["viper15"], drop_predictions=True),
    # The same two groups for SYNTHIA-Seq, where rider is a class of its own. DA-VSN's has fence in training and in the
    # confusion, but not in the mean.
    Protocol("synthia_seq11", CLASS_LISTS["synthia_seq11"], kept=("fence",)),
    Protocol("synthia_seq11_uvda", CLASS_LISTS["synthia_seq11"], drop_predictions=True),
    Protocol("camvid11", CLASS_LISTS["camvid11"]),
)
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _NAMED}
"""The published protocols by name (docs/conventions.md). Numbers of different protocols are not comparable."""
