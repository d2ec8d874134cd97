"""The balanced loss: statistics of both domains and the cross-entropy that they correct (METHOD 3 and 4)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from blda.balance.alignment import alignment, alignments
from blda.balance.cross_entropy import balanced_cross_entropy
from blda.balance.logit_statistics import LogitStatistics
from blda.data.batches import Mixed, PseudoLabels
from blda.data.class_labels import integers
from blda.data.sample import IGNORE, Sample
from blda.models.output import Output, logits_of


class BalancedLoss:
    """Criterion of BLDA: cross-entropy of logits that are corrected towards the source's anchors.

    Each loss first updates the statistics of its domain, which then correct the same batch (METHOD 3). The source
    pixels of a mixed image are corrected with the source's statistics but do not update them, because they were counted
    in the source batch of the same step.

    source, target: statistics of the two domains.
    tau: strength of the correction.
    correct_target: False does not correct the target's pixels (the paper's ablation).
    """

    def __init__(
        self, source: LogitStatistics, target: LogitStatistics, tau: float = 0.1, correct_target: bool = True
    ) -> None:
        self.source_statistics, self.target_statistics, self.tau = source, target, tau
        self.correct_target = correct_target

    def source_loss(self, output: Tensor | Output, source: Sample) -> Tensor:
        """Update the source's statistics and anchors, and return the balanced loss of the batch (METHOD 4)."""
        logits = logits_of(output)
        self.source_statistics.update(logits.detach(), source.label)
        aligned = alignment(self.source_statistics, self.source_statistics, source.label)
        return balanced_cross_entropy(logits, source.label, [aligned], self.tau)

    def mixed_loss(self, output: Tensor | Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """Update the target's statistics with target pixels of positive weight; return the loss of all pixels."""
        logits, mixed = logits_of(output), replace(mixed, label=integers("labels", mixed.label))
        trusted = torch.where(mixed.from_source | (mixed.weight <= 0), IGNORE, mixed.label)
        self.target_statistics.update(logits.detach(), trusted, pseudo)
        domains = (self.source_statistics, self.target_statistics)
        aligned = alignments(list(zip(domains, _labels_by_domain(mixed), strict=True)), self.source_statistics)
        if not self.correct_target:
            aligned.active[self.target_statistics.num_classes :] = False
        from_target = ~mixed.from_source
        return balanced_cross_entropy(logits, mixed.label, [aligned], self.tau, from_target, mixed.weight)

    def state(self) -> dict[str, LogitStatistics]:
        """Return the statistics of both domains, which a checkpoint must save, by name."""
        return {"source_statistics": self.source_statistics, "target_statistics": self.target_statistics}

    def numbers(self) -> dict[str, Tensor]:
        """Return the bias of every class in both domains, estimated without labels: (C,) each."""
        return {"bias_source": self.source_statistics.bias(), "bias_target": self.target_statistics.bias()}


def _labels_by_domain(mixed: Mixed) -> tuple[Tensor | None, Tensor | None]:
    """Return the labels of the source's pixels and those of the target's, both None on a GPU; see `alignment`."""
    if mixed.label.device.type != "cpu":
        return None, None
    return torch.where(mixed.from_source, mixed.label, IGNORE), torch.where(mixed.from_source, IGNORE, mixed.label)
