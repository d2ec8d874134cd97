"""Criteria, the losses of a labelled batch: the protocol, and cross-entropy plain, weighted and adjusted by class."""

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
    """Loss of a labelled batch.

    output: output of the trained network, logits (B, C, *S) or an `Output` that holds them.

    A criterion that uses a further field of `Output` wraps another criterion and hands it the whole output. The
    innermost criterion uses the logits.
    """

    def source_loss(self, output: Tensor | Output, source: Sample) -> Tensor:
        """Return the loss of a source batch, a scalar."""

    def mixed_loss(self, output: Tensor | Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """Return the loss of a mixed batch, a scalar; pseudo: pseudo-labels of the target batch before mixing."""

    def state(self) -> Mapping[str, nn.Module]:
        """Return the modules that a checkpoint must save, by name."""

    def numbers(self) -> dict[str, Tensor]:
        """Return the numbers of the last step to log: scalars, and values per class (C,)."""


class PlainLoss:
    """Plain cross-entropy, for source-only training and unbalanced self-training."""

    def source_loss(self, output: Tensor | Output, source: Sample) -> Tensor:
        """Return the cross-entropy of a source batch."""
        return cross_entropy(logits_of(output), source.label)

    def mixed_loss(self, output: Tensor | Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """Return the cross-entropy of a mixed batch, each pixel weighted by `mixed.weight`."""
        return cross_entropy(logits_of(output), mixed.label, mixed.weight)

    def state(self) -> dict[str, LogitStatistics]:
        """Return no state: nothing has to survive a restart."""
        return {}

    def numbers(self) -> dict[str, Tensor]:
        """Return no numbers: there is nothing to log."""
        return {}


class ReweightedLoss(PlainLoss):
    """Cross-entropy with larger weights for rare classes: the baseline that BLDA is compared with (paper, ablation).

    frequency: number of source pixels of each class, (C,).
    power: exponent of the class weight factor / share^power. Weights are scaled to a mean of 1 over the source's
        pixels; classes that never occur have weight 0.
    factors: factor of each class, (C,), None for 1.
    """

    def __init__(self, frequency: Tensor, power: float = 0.5, factors: Tensor | None = None) -> None:
        share = frequency.double() / frequency.sum()
        weight = torch.where(share > 0, share.clamp_min(1e-12) ** -power, 0)
        if factors is not None:
            weight = weight * factors.to(weight)
        self.weight = (weight / (weight * share).sum()).float()

    def source_loss(self, output: Tensor | Output, source: Sample) -> Tensor:
        """Return the class-weighted cross-entropy of a source batch."""
        return cross_entropy(logits_of(output), source.label, self._pixel_weight(source.label))

    def mixed_loss(self, output: Tensor | Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """Return the cross-entropy of a mixed batch, weighted by class and by `mixed.weight`."""
        return cross_entropy(logits_of(output), mixed.label, self._pixel_weight(mixed.label) * mixed.weight)

    def _pixel_weight(self, label: Tensor) -> Tensor:
        """Return the class weight of every pixel, (B, *S); ignored pixels get that of class 0, which is not used."""
        return self.weight[torch.where(label == IGNORE, 0, label)]


class AdjustedLoss(PlainLoss):
    """Cross-entropy of z_c + power log share_c: logit adjustment (Menon et al., ICLR 2021, eq. 10).

    It is the baseline that BLDA has to beat: a rare class must win by more, whatever its logits look like. Predictions
    are of z itself.

    frequency: number of source pixels of each class, (C,). Classes that never occur are adjusted as the others are on
        average. power: strength, at least 0; 1 as published.
    """

    def __init__(self, frequency: Tensor, power: float) -> None:
        occurs = frequency > 0
        logarithm = frequency.double().clamp(min=1).log()
        average = (logarithm * occurs).sum() / occurs.sum().clamp(min=1)
        self.offset = (power * torch.where(occurs, logarithm - average, 0)).float()

    def source_loss(self, output: Tensor | Output, source: Sample) -> Tensor:
        """Return the adjusted cross-entropy of a source batch."""
        return super().source_loss(self._adjusted(output), source)

    def mixed_loss(self, output: Tensor | Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """Return the adjusted cross-entropy of a mixed batch, each pixel weighted by `mixed.weight`."""
        return super().mixed_loss(self._adjusted(output), mixed, pseudo)

    def _adjusted(self, output: Tensor | Output) -> Tensor:
        logits = logits_of(output)
        return logits + self.offset.view(-1, *[1] * (logits.dim() - 2))
