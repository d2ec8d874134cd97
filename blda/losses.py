"""What a labelled batch costs: cross-entropy, plain or balanced."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from blda.balance import Alignment, alignment, balanced, correction
from blda.data.sample import IGNORE, Sample
from blda.labels import PseudoLabels
from blda.mixing import Mixed
from blda.statistics import LogitStatistics


def cross_entropy(logits: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
    """Weighted cross-entropy, averaged over all pixels, ignored ones counted in the denominator (METHOD 4).

    logits: (B, C, H, W); label: (B, H, W); weight: (B, H, W) or None for 1. The fixed denominator makes the mean over
    processes equal to that of one process with the whole batch.
    """
    loss = F.cross_entropy(logits.float(), label, ignore_index=IGNORE, reduction="none")
    return (loss if weight is None else loss * weight).mean()


class PlainLoss:
    """Cross-entropy as it is: source-only training and plain self-training."""

    def source(self, logits: Tensor, source: Sample) -> Tensor:
        """Loss of a source batch."""
        return cross_entropy(logits, source.label)

    def mixed(self, logits: Tensor, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """Loss of a mixed batch, its target pixels weighted by their trust."""
        return cross_entropy(logits, mixed.label, mixed.weight)

    def state(self) -> dict[str, LogitStatistics]:
        """Nothing survives a restart."""
        return {}

    def numbers(self) -> dict[str, Tensor]:
        """Nothing to log."""
        return {}


class BalancedLoss:
    """BLDA: statistics of both domains, and cross-entropy of logits corrected towards the source's anchors.

    Statistics are updated first, then correct the same batch (METHOD 3), once a pass and domain. The source pixels of
    a mixed image are corrected with the source's statistics but do not feed them again: they were counted in this
    pass's source batch already. source, target: one `LogitStatistics` each. tau: strength of the correction.
    """

    def __init__(self, source: LogitStatistics, target: LogitStatistics, tau: float = 0.1) -> None:
        self.source_statistics, self.target_statistics, self.tau = source, target, tau
        self._source_alignment: Alignment | None = None

    def source(self, logits: Tensor, source: Sample) -> Tensor:
        """Update the source's statistics and anchors, then the balanced loss of the batch (METHOD 4)."""
        self.source_statistics.update(logits.detach(), source.label)
        self._source_alignment = alignment(self.source_statistics, self.source_statistics)
        delta = correction(logits, source.label, [self._source_alignment])
        return cross_entropy(balanced(logits, delta, self.tau), source.label)

    def mixed(self, logits: Tensor, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """Update the target's statistics from trusted target pixels, then the balanced loss of all pixels."""
        target_label = torch.where(mixed.from_source, IGNORE, mixed.label)
        trusted = torch.where(mixed.weight > 0, target_label, IGNORE)
        self.target_statistics.update(logits.detach(), trusted, pseudo)
        own = self._source_alignment or alignment(self.source_statistics, self.source_statistics)
        domains = [own, alignment(self.target_statistics, self.source_statistics)]
        delta = correction(logits, mixed.label, domains, (~mixed.from_source).long())
        return cross_entropy(balanced(logits, delta, self.tau), mixed.label, mixed.weight)

    def state(self) -> dict[str, LogitStatistics]:
        """What must survive a restart, by name."""
        return {"source_statistics": self.source_statistics, "target_statistics": self.target_statistics}

    def numbers(self) -> dict[str, Tensor]:
        """Bias of every class in both domains, estimated without labels: (C,) each."""
        return {"bias_source": self.source_statistics.bias(), "bias_target": self.target_statistics.bias()}
