"""The balanced loss: statistics of both domains and the cross-entropy that they correct (METHOD 3 and 4)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from blda.balance import pixels
from blda.balance.alignment import alignment, alignments
from blda.balance.cross_entropy import balanced_cross_entropy
from blda.balance.logit_statistics import LogitStatistics
from blda.data.batches import PseudoLabels
from blda.data.sample import IGNORE


class BalancedLoss(nn.Module):
    """Cross-entropy of logits that are corrected towards the source's anchors, for any training loop.

    The state is that of two `LogitStatistics`, all buffers of `state_dict()`; there are no parameters. In training mode
    each loss first updates the statistics of its domain, which then correct the same batch (METHOD 3); in eval mode
    nothing is updated. With several processes every process makes the same calls, and the counts are summed over
    processes. Casts of the module, `half()` for example, and autocast leave the statistics in full precision.
    `torch.compile` runs the losses as they are, between the graphs of the rest.

    num_classes: number of classes C.
    tau: strength of the correction, at least 0.
    correct_target: False does not correct the target's pixels (the paper's ablation).
    warmup, momentum, min_pixels, components: of the statistics of both domains, see `LogitStatistics`.
    seed: seed of the initial means; the target's are drawn with seed + 1.
    """

    def __init__(
        self,
        num_classes: int,
        tau: float = 0.1,
        correct_target: bool = True,
        warmup: int = 1500,
        momentum: float = 0.99,
        min_pixels: int = 100,
        components: int = 5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not tau >= 0:
            raise ValueError(f"tau is {tau}; give a number of at least 0, the paper's is 0.1")
        self.tau, self.correct_target = tau, correct_target
        settings = (num_classes, components, momentum, warmup, min_pixels)
        self.source_statistics = LogitStatistics(*settings, seed=seed)
        self.target_statistics = LogitStatistics(*settings, seed=seed + 1)

    @classmethod
    def of(
        cls, source: LogitStatistics, target: LogitStatistics, tau: float = 0.1, correct_target: bool = True
    ) -> BalancedLoss:
        """Build the loss around given statistics of the two domains, which may be of another kind."""
        loss = cls(source.num_classes, tau, correct_target)
        loss.source_statistics, loss.target_statistics = source, target
        return loss

    @torch.compiler.disable
    def source_loss(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """Update the source's statistics and anchors, and return the balanced loss of a source batch, a scalar.

        logits: (B, C, *S) of any float type: (B, C, H, W) of images at the size of the labels, (B, C) of a classifier.
        labels: (B, *S) of any integer type, a class or IGNORE.
        weight: weights of the pixels in the loss, (B, *S) >= 0, which get no gradient; None for 1. Pixels of weight 0
            are not counted.

        The loss is averaged over all pixels, ignored ones too. Raises ValueError for other shapes and types, and on a
        CPU for labels that are not classes; on a GPU such labels make the loss NaN.
        """
        with _full_precision(logits.device.type):
            labels, weight = self._checked(logits, labels, weight)
            if self.training:
                self.source_statistics.update(logits.detach(), _counted(labels, weight))
            aligned = alignment(self.source_statistics, self.source_statistics, labels)
            return balanced_cross_entropy(logits, labels, [aligned], self.tau, weight=weight)

    @torch.compiler.disable
    def target_loss(
        self,
        logits: Tensor,
        labels: Tensor,
        weight: Tensor | None = None,
        from_source: Tensor | None = None,
        pseudo: PseudoLabels | None = None,
    ) -> Tensor:
        """Update the target's statistics, and return the balanced loss of a pseudo-labelled or mixed batch, a scalar.

        logits, labels, weight: see `source_loss`. Weights say how far pseudo-labels are trusted.
        from_source: (B, *S) bool, pixels that were pasted from the source; None for none. They are corrected with the
            source's statistics, but update none, because `source_loss` has counted them in the same step.
        pseudo: the pseudo-labels of the target before mixing, for statistics that count by more than the labels.

        Before the first source batch nothing is corrected, as anchors are the source's.
        """
        with _full_precision(logits.device.type):
            labels, weight = self._checked(logits, labels, weight)
            from_source = _mask(from_source, labels)
            if self.training:
                counted = torch.where(from_source, IGNORE, _counted(labels, weight))
                self.target_statistics.update(logits.detach(), counted, pseudo)
            domains = (self.source_statistics, self.target_statistics)
            of_domains = _labels_by_domain(labels, from_source)
            aligned = alignments(list(zip(domains, of_domains, strict=True)), self.source_statistics)
            if not self.correct_target:
                aligned.active[self.target_statistics.num_classes :] = False
            return balanced_cross_entropy(logits, labels, [aligned], self.tau, ~from_source, weight)

    def forward(self, *_: object) -> Tensor:
        """Raise TypeError: the two domains have a loss each."""
        raise TypeError("a BalancedLoss has a loss for each domain; call source_loss(logits, labels) or target_loss")

    def extra_repr(self) -> str:
        """Show the settings in the text of a network."""
        return f"{self.source_statistics.num_classes}, tau={self.tau}, correct_target={self.correct_target}"

    def _checked(self, logits: Tensor, labels: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return labels as int64 and weights as float32; ValueError for what does not fit."""
        labels = pixels.checked(logits, labels, self.source_statistics.num_classes)
        pixels.same_device("the balanced loss", self.source_statistics.means, logits)
        weight = pixels.weights_of(weight, labels)
        return labels, None if weight is None else weight.detach()


def _full_precision(device: str) -> AbstractContextManager:
    """Return a context without autocast, which some devices do not have at all."""
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def _counted(labels: Tensor, weight: Tensor | None) -> Tensor:
    """Return the labels of pixels with a positive weight, IGNORE elsewhere."""
    return labels if weight is None else torch.where(weight <= 0, IGNORE, labels)


def _mask(from_source: Tensor | None, labels: Tensor) -> Tensor:
    """Return the mask of pixels from the source; ValueError for another shape or type."""
    if from_source is None:
        return torch.zeros_like(labels, dtype=torch.bool)
    if from_source.shape != labels.shape or from_source.dtype != torch.bool:
        raise ValueError(
            f"from_source {tuple(from_source.shape)} of {from_source.dtype} does not belong to labels "
            f"{tuple(labels.shape)}; give one bool a pixel"
        )
    pixels.same_device("from_source", from_source, labels)
    return from_source


def _labels_by_domain(labels: Tensor, from_source: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return the labels of the source's pixels and those of the target's, both None on a GPU; see `alignment`."""
    if labels.device.type != "cpu":
        return None, None
    return torch.where(from_source, labels, IGNORE), torch.where(from_source, IGNORE, labels)
