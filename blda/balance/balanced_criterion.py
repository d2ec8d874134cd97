"""The balanced loss as the criterion of a training step, which gets whole batches and outputs."""

from __future__ import annotations

from torch import Tensor

from blda.balance.balanced_loss import BalancedLoss
from blda.balance.logit_statistics import LogitStatistics
from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import Sample
from blda.models.output import Output, logits_of


class BalancedCriterion:
    """Criterion of BLDA: `BalancedLoss` of the batches that self-training makes.

    source, target: statistics of the two domains. tau, correct_target: see `BalancedLoss`.
    """

    def __init__(
        self, source: LogitStatistics, target: LogitStatistics, tau: float = 0.1, correct_target: bool = True
    ) -> None:
        self.source_statistics, self.target_statistics = source, target
        self.balanced = BalancedLoss.of(source, target, tau, correct_target)

    def source_loss(self, output: Tensor | Output, source: Sample) -> Tensor:
        """Update the source's statistics and anchors, and return the balanced loss of the batch (METHOD 4)."""
        return self.balanced.source_loss(logits_of(output), source.label)

    def mixed_loss(self, output: Tensor | Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """Update the target's statistics with target pixels of positive weight; return the loss of all pixels."""
        return self.balanced.target_loss(logits_of(output), mixed.label, mixed.weight, mixed.from_source, pseudo)

    def state(self) -> dict[str, LogitStatistics]:
        """Return the statistics of both domains, which a checkpoint must save, by name."""
        return {"source_statistics": self.source_statistics, "target_statistics": self.target_statistics}

    def numbers(self) -> dict[str, Tensor]:
        """Return the bias of every class in both domains, estimated without labels: (C,) each."""
        return {"bias_source": self.source_statistics.bias(), "bias_target": self.target_statistics.bias()}
