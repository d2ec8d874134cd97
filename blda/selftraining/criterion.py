"""Criteria of a labelled batch: the protocol, plain cross-entropy, and cross-entropy weighted by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from blda.balance.cross_entropy import cross_entropy
from blda.balance.logit_statistics import LogitStatistics
from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import IGNORE, Sample
from blda.models.output import Output, logits_of


class Criterion(Protocol):
    """What a labelled batch costs. output: of the trained network, logits (B, C, *S) or an `Output` with them.

    One that knows a part of `Output` wraps another and hands the whole on; the innermost take the logits.
    """

    def source_loss(self, output: Tensor | Output, source: Sample) -> Tensor: ...

    def mixed_loss(self, output: Tensor | Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor: ...

    def state(self) -> Mapping[str, nn.Module]: ...

    def numbers(self) -> dict[str, Tensor]: ...


class PlainLoss:
    """Cross-entropy as it is: source-only training and plain self-training."""

    def source_loss(self, output: Tensor | Output, source: Sample) -> Tensor:
        """Loss of a source batch."""
        return cross_entropy(logits_of(output), source.label)

    def mixed_loss(self, output: Tensor | Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """Loss of a mixed batch, its target pixels weighted by their trust."""
        return cross_entropy(logits_of(output), mixed.label, mixed.weight)

    def state(self) -> dict[str, LogitStatistics]:
        """Nothing survives a restart."""
        return {}

    def numbers(self) -> dict[str, Tensor]:
        """Nothing to log."""
        return {}


class ReweightedLoss(PlainLoss):
    """Cross-entropy in which rare classes cost more: the baseline that BLDA is compared with (paper, ablation).

    frequency: (C,) pixels of each class in the source. power: a class weighs 1 / share^power, scaled so that the mean
    over the source's pixels is 1; classes that never occur weigh nothing.
    """

    def __init__(self, frequency: Tensor, power: float = 0.5) -> None:
        share = frequency.double() / frequency.sum()
        weight = torch.where(share > 0, share.clamp_min(1e-12) ** -power, 0)
        self.weight = (weight / (weight * share).sum()).float()

    def source_loss(self, output: Tensor | Output, source: Sample) -> Tensor:
        """Loss of a source batch."""
        return cross_entropy(logits_of(output), source.label, self._of(source.label))

    def mixed_loss(self, output: Tensor | Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """Loss of a mixed batch."""
        return cross_entropy(logits_of(output), mixed.label, self._of(mixed.label) * mixed.weight)

    def _of(self, label: Tensor) -> Tensor:
        return self.weight[torch.where(label == IGNORE, 0, label)]
