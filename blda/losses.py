"""What a labelled batch costs: cross-entropy, plain or balanced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blda import pixels
from blda.balance import Alignment, alignment, alignments, balanced, correction, stacked
from blda.data.sample import IGNORE, Sample
from blda.kernels.choice import kernels
from blda.labels import PseudoLabels
from blda.mixing import Mixed
from blda.models.output import Output, logits_of
from blda.statistics import LogitStatistics


def cross_entropy(logits: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
    """Weighted cross-entropy, averaged over all pixels, ignored ones counted in the denominator (METHOD 4).

    logits: (B, C, *S); label: (B, *S); weight: (B, *S) or None for 1. The fixed denominator makes the mean over
    processes equal to that of one process with the whole batch.
    """
    pixels.check(logits, label, logits.shape[1])
    pixels.known(label, logits.shape[1])
    loss = F.cross_entropy(logits.float(), label, ignore_index=IGNORE, reduction="none")
    return (loss if weight is None else loss * weight).mean()


def balanced_cross_entropy(
    logits: Tensor,
    label: Tensor,
    domains: Sequence[Alignment],
    tau: float,
    domain: Tensor | int = 0,
    weight: Tensor | None = None,
) -> Tensor:
    """`cross_entropy` of the balanced logits, z - tau * Delta_y(z), Delta without gradient (METHOD 4).

    Shapes: see `cross_entropy` and `correction`. Where kernels are compiled for the device, the logits are read once
    and their gradient written once, with nothing of their size in between.
    """
    compiled = kernels(logits.device.type) if label.numel() else None
    if compiled is None:
        return cross_entropy(balanced(logits, correction(logits, label, domains, domain), tau), label, weight)
    classes = domains[0].table.shape[1]
    pixels.check(logits, label, classes)
    known = pixels.known(label, classes)
    weight = torch.ones_like(label, dtype=torch.float32) if weight is None else weight
    # The mean's divisor goes into the weights, which saves a pass over the gradient; not in half precision, in which a
    # gradient scaler must multiply before anything divides, or small gradients vanish.
    early, late = (label.numel(), 1) if logits.dtype == torch.float32 else (1, label.numel())
    # A label that is no class (see `known`) gets a row, so that its weight makes the loss NaN.
    weight = torch.where(known | (label == IGNORE), weight / early, torch.nan)
    row = torch.where(known, label + classes * domain, torch.where(label == IGNORE, -1, 0))
    maps = pixels.flat_map(row), pixels.flat_map(weight)
    return _Balanced.apply(pixels.flat_logits(logits), *maps, stacked(domains), tau, compiled) / late


class _Balanced(torch.autograd.Function):
    """Summed loss with the gradient that came with it, good for one backward."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, row: Tensor, weight: Tensor, aligned: Alignment, tau: float, compiled: Any
    ) -> Tensor:
        loss, ctx.gradient = compiled.loss_and_gradient(logits.detach(), row, weight, *aligned, tau)
        return loss.float()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradient is None:
            raise RuntimeError("the balanced loss was taken backward before; compute it again")
        gradient, ctx.gradient = ctx.gradient, None
        # In place: a copy would be as large as the logits. On a GPU, to look at the slope would wait for the device.
        if slope.device.type != "cpu" or slope != 1:
            gradient.mul_(slope)
        return gradient, None, None, None, None, None


class Criterion(Protocol):
    """What a labelled batch costs. output: of the trained network, logits (B, C, *S) or an `Output` with them.

    One that knows a part of `Output` wraps another and hands the whole on; the innermost take the logits.
    """

    def source(self, output: Tensor | Output, source: Sample) -> Tensor: ...

    def mixed(self, output: Tensor | Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor: ...

    def state(self) -> Mapping[str, nn.Module]: ...

    def numbers(self) -> dict[str, Tensor]: ...


class PlainLoss:
    """Cross-entropy as it is: source-only training and plain self-training."""

    def source(self, output: Tensor | Output, source: Sample) -> Tensor:
        """Loss of a source batch."""
        return cross_entropy(logits_of(output), source.label)

    def mixed(self, output: Tensor | Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
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

    def source(self, output: Tensor | Output, source: Sample) -> Tensor:
        """Loss of a source batch."""
        return cross_entropy(logits_of(output), source.label, self._of(source.label))

    def mixed(self, output: Tensor | Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """Loss of a mixed batch."""
        return cross_entropy(logits_of(output), mixed.label, self._of(mixed.label) * mixed.weight)

    def _of(self, label: Tensor) -> Tensor:
        return self.weight[torch.where(label == IGNORE, 0, label)]


class BalancedLoss:
    """BLDA: statistics of both domains, and cross-entropy of logits corrected towards the source's anchors.

    Statistics are updated first, then correct the same batch (METHOD 3), once a pass and domain. The source pixels of
    a mixed image are corrected with the source's statistics but do not feed them again: they were counted in this
    pass's source batch already. source, target: one `LogitStatistics` each. tau: strength of the correction.
    correct_target: False leaves the target's pixels as they are (the paper's ablation).
    """

    def __init__(
        self, source: LogitStatistics, target: LogitStatistics, tau: float = 0.1, correct_target: bool = True
    ) -> None:
        self.source_statistics, self.target_statistics, self.tau = source, target, tau
        self.correct_target = correct_target

    def source(self, output: Tensor | Output, source: Sample) -> Tensor:
        """Update the source's statistics and anchors, then the balanced loss of the batch (METHOD 4)."""
        logits = logits_of(output)
        self.source_statistics.update(logits.detach(), source.label)
        aligned = alignment(self.source_statistics, self.source_statistics, source.label)
        return balanced_cross_entropy(logits, source.label, [aligned], self.tau)

    def mixed(self, output: Tensor | Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """Update the target's statistics from trusted target pixels, then the balanced loss of all pixels."""
        logits = logits_of(output)
        source_label = torch.where(mixed.from_source, mixed.label, IGNORE)
        target_label = torch.where(mixed.from_source, IGNORE, mixed.label)
        trusted = torch.where(mixed.weight > 0, target_label, IGNORE)
        self.target_statistics.update(logits.detach(), trusted, pseudo)
        parts = [(self.source_statistics, source_label), (self.target_statistics, target_label)]
        aligned = alignments(parts, self.source_statistics)
        if not self.correct_target:
            aligned.active[self.target_statistics.classes :] = False
        from_target = (~mixed.from_source).long()
        return balanced_cross_entropy(logits, mixed.label, [aligned], self.tau, from_target, mixed.weight)

    def state(self) -> dict[str, LogitStatistics]:
        """What must survive a restart, by name."""
        return {"source_statistics": self.source_statistics, "target_statistics": self.target_statistics}

    def numbers(self) -> dict[str, Tensor]:
        """Bias of every class in both domains, estimated without labels: (C,) each."""
        return {"bias_source": self.source_statistics.bias(), "bias_target": self.target_statistics.bias()}
