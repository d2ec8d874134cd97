"""Regression of cumulative densities, which all classes share, added to the balanced loss (paper 3.3.5, METHOD 5)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from blda.balance.alignment import cumulative_density
from blda.balance.balanced_criterion import BalancedCriterion
from blda.balance.logit_statistics import LogitStatistics
from blda.data.batches import Mixed, PseudoLabels
from blda.data.class_labels import class_labels
from blda.data.sample import Sample
from blda.models.output import Output


class DensityLoss:
    """`BalancedCriterion` plus strength * |d - F_yy(z_y)|^power of the predicted density d on both domains.

    balanced: the balanced loss; it updates the statistics that define F.
    head: the regression head, saved with the state.
    strength: weight lambda of the regression.
    power: 2 in the paper, 1 in its code.
    """

    def __init__(self, balanced: BalancedCriterion, head: nn.Module, strength: float = 0.2, power: int = 2) -> None:
        if power not in (1, 2):
            raise ValueError(f"blda.density.power is {power}; use 1 or 2")
        self.balanced, self.head, self.strength, self.power = balanced, head, strength, power

    def source_loss(self, output: Output, source: Sample) -> Tensor:
        """Return the balanced loss of a source batch plus its regression loss."""
        loss = self.balanced.source_loss(output, source)
        weight = torch.ones_like(output.density)
        return loss + self._regression(output, source.label, weight, self.balanced.source_statistics)

    def mixed_loss(self, output: Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """Return the balanced loss of a mixed batch plus its regression loss, both weighted by `mixed.weight`."""
        loss = self.balanced.mixed_loss(output, mixed, pseudo)
        own, other = self.balanced.source_statistics, self.balanced.target_statistics
        source_weight = torch.where(mixed.from_source, mixed.weight, 0)
        loss = loss + self._regression(output, mixed.label, source_weight, own)
        return loss + self._regression(output, mixed.label, mixed.weight - source_weight, other)

    def state(self) -> dict[str, nn.Module]:
        """Return the statistics and the regression head, by name."""
        return {**self.balanced.state(), "density_head": self.head}

    def numbers(self) -> dict[str, Tensor]:
        """Return the numbers of the balanced loss."""
        return self.balanced.numbers()

    def _regression(self, output: Output, label: Tensor, weight: Tensor, statistics: LogitStatistics) -> Tensor:
        """Return the regression loss, averaged over all pixels; classes never estimated contribute nothing."""
        label, _ = class_labels(label, statistics.num_classes)
        density = cumulative_density(output.logits, label, statistics)
        estimated = torch.cat((statistics.estimated[: statistics.num_classes], statistics.estimated.new_zeros(1)))
        counted = estimated[label.clamp(max=statistics.num_classes)]
        error = (output.density - density).abs() ** self.power
        return self.strength * torch.where(counted, weight * error, 0).mean()
