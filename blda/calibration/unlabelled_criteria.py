"""Criteria that judge a trained network on a target without its labels, to choose among checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from blda.balance import logit_grid
from blda.balance.logit_statistics import LogitStatistics
from blda.balance.soft_counting import sampled_labels

CRITERIA: dict[str, int] = {
    "information": 1,
    "expected_mIoU": 1,
    "mirrored_mIoU": 1,
    "teacher_mIoU": 1,
    "temporal_mIoU": 1,
    "bias_spread": -1,
    "share_divergence": -1,
    "entropy": -1,
}
"""Criterion -> 1 if more is better, -1 if less is."""
SCORED = ("information", "expected_mIoU", "bias_spread", "share_divergence")
"""Criteria whose ranks are averaged into the score of a checkpoint (docs/method.md, Choosing a checkpoint)."""
FIT_PASSES = 5


class UnlabelledCriteria:
    """Criteria of one network, accumulated over target images.

    Class averages are over the classes that the source has, and a class that the network never predicts counts as 0:
    a network that gives up rare classes agrees with itself very well on the others.

    source_pixels: labelled pixels of each class in the source, (C,).
    """

    def __init__(self, source_pixels: Tensor) -> None:
        self.shares = source_pixels.double().cpu() / source_pixels.sum().cpu()
        classes = len(self.shares)
        self.statistics = LogitStatistics(classes, momentum=0.0, min_pixels=10)
        self._histograms = torch.zeros(classes, classes, logit_grid.BINS, dtype=torch.float64)
        self._expected, self._mirrored, self._teacher = torch.zeros(3, classes, classes, dtype=torch.float64)
        self._probabilities, self._entropy, self._images = torch.zeros(classes, dtype=torch.float64), 0.0, 0

    @torch.no_grad()
    def update(self, logits: Tensor, mirrored: Tensor, teacher: Tensor | None = None) -> None:
        """Add one image by three predictions of it.

        logits: (1, C, H, W). mirrored: logits of the mirror image, mirrored back. teacher: the teacher's, None without.
        """
        probabilities = logits.softmax(1)
        predicted = logits.argmax(1)
        labels = sampled_labels(probabilities, self._images)
        self._histograms += self.statistics.to(logits.device).histogram(logits, labels).cpu()
        self._expected += expected_confusion(probabilities, predicted)
        self._mirrored += confusion(predicted, mirrored.argmax(1), len(self.shares))
        if teacher is not None:
            self._teacher += confusion(predicted, teacher.argmax(1), len(self.shares))
        self._probabilities += probabilities.double().mean((0, 2, 3)).cpu()
        self._entropy += float(-torch.special.xlogy(probabilities, probabilities).sum(1).mean())
        self._images += 1

    def compute(self) -> dict[str, float]:
        """Return the criteria, IoUs in percent; nan for `teacher_mIoU` without a teacher.

        information: entropy of the mean prediction minus mean entropy, in nats: sure of each pixel, not of one class.
        expected_mIoU: mIoU under the confusion matrix that the probabilities predict.
        mirrored_mIoU, teacher_mIoU: mIoU between the prediction and that of the mirror image, or of the teacher.
        bias_spread: standard deviation of the classes' estimated bias (METHOD 1), by soft counts.
        share_divergence: Jensen-Shannon divergence between the predicted shares of the classes and the source's, bits.
        entropy: mean entropy of a pixel, nats.
        """
        known, statistics = self.shares > 0, self.statistics.cpu()
        for _ in range(FIT_PASSES):
            statistics.fit(self._histograms)
        mean, entropy = self._probabilities / self._images, self._entropy / self._images
        predicted = self._expected.sum(0) / self._expected.sum()
        return {
            "information": float(-torch.special.xlogy(mean, mean).sum()) - entropy,
            "expected_mIoU": mean_iou(self._expected, known),
            "mirrored_mIoU": mean_iou(self._mirrored, known),
            "teacher_mIoU": mean_iou(self._teacher, known) if self._teacher.any() else float("nan"),
            "bias_spread": float(statistics.bias()[known].std(correction=0)),
            "share_divergence": divergence(predicted, self.shares),
            "entropy": entropy,
        }


def confusion(one: Tensor, other: Tensor, num_classes: int) -> Tensor:
    """Count the pixels of every pair of classes in two maps (B, H, W): (C, C) float64 on the CPU."""
    cells = torch.bincount((one * num_classes + other).flatten(), minlength=num_classes**2)
    return cells.view(num_classes, num_classes).double().cpu()


def expected_confusion(probabilities: Tensor, predicted: Tensor) -> Tensor:
    """Return the confusion matrix, truth x prediction, that probabilities (B, C, H, W) expect: (C, C) float64."""
    mass = probabilities.movedim(1, 0).flatten(1).double()
    counts = torch.zeros(len(mass), len(mass), dtype=torch.float64, device=mass.device)
    return counts.index_add_(1, predicted.flatten(), mass).cpu()


def mean_iou(counts: Tensor, known: Tensor) -> float:
    """Return the mean IoU of a confusion (C, C) over the `known` classes, (C,) bool, in percent; 0 for absent ones."""
    both = counts.diagonal()
    iou = both / (counts.sum(0) + counts.sum(1) - both).clamp_min(1e-9)
    return 100 * float(iou[known].mean())


def divergence(one: Tensor, other: Tensor) -> float:
    """Return the Jensen-Shannon divergence of two distributions (C,), in bits: 0 for equal, 1 for disjoint ones."""
    middle = ((one + other) / 2).clamp_min(1e-300)
    halves = (torch.special.xlogy(each, each / middle).sum() / 2 for each in (one, other))
    return float(sum(halves) / torch.tensor(2.0, dtype=torch.float64).log())


def mean_ranks(candidates: Sequence[Mapping[str, float]], scored: Sequence[str] = SCORED) -> list[float]:
    """Return a score in [0, 1] for each candidate: its mean rank over the criteria, 1 for the best in all of them.

    candidates: at least two mappings from criterion to value. A criterion that one of them lacks, or has as nan, is
    left out for all. Raises ValueError if no criterion is left.
    """
    values = torch.tensor([[each.get(name, float("nan")) for name in scored] for each in candidates]).double()
    usable = values.isfinite().all(0)
    if not usable.any():
        raise ValueError(f"no criterion of {', '.join(scored)} is known of all checkpoints; rank runs of one kind")
    values = (values * torch.tensor([CRITERIA[name] for name in scored]))[:, usable]
    beaten = (values[:, None] > values).sum(1).double() + ((values[:, None] == values).sum(1) - 1) / 2
    return (beaten.mean(1) / max(len(candidates) - 1, 1)).tolist()
