"""HRDA's loss of the detail logits, added to that of the fused logits (Hoyer et al., ECCV 2022, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import Sample
from blda.models.output import Output
from blda.selftraining.criterion import Criterion


class HRDADetailLoss:
    """Weighted sum (1 - strength) L(fused logits) + strength L_d(detail logits), both on the same labels.

    fused: the criterion L of the fused logits; it gets the whole `Output`.
    detail: the criterion L_d of the detail logits, on the labels inside the detail's window. It is of the same kind as
        the innermost criterion of L. Balanced losses are the exception: their statistics describe fused logits, so
        their L_d is plain cross-entropy.
    strength: weight lambda_d of L_d, within 0 and 1.
    """

    def __init__(self, fused: Criterion, detail: Criterion, strength: float = 0.1) -> None:
        if not 0 <= strength <= 1:
            raise ValueError(f"model.hrda.strength is {strength}; it must be within 0 and 1")
        self.fused, self.detail, self.strength = fused, detail, strength

    def source_loss(self, output: Output, source: Sample) -> Tensor:
        """Return the weighted sum of both losses of a source batch."""
        logits, window = output.detail
        cropped = replace(source, image=window.of(source.image), label=window.of(source.label))
        return self._both(self.fused.source_loss(output, source), self.detail.source_loss(logits, cropped))

    def mixed_loss(self, output: Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """Return the weighted sum of both losses of a mixed batch, each pixel weighted by `mixed.weight`."""
        logits, window = output.detail
        cropped = Mixed(*map(window.of, (mixed.image, mixed.label, mixed.weight, mixed.from_source)))
        in_window = PseudoLabels(window.of(pseudo.label), window.of(pseudo.weight))
        fused = self.fused.mixed_loss(output, mixed, pseudo)
        return self._both(fused, self.detail.mixed_loss(logits, cropped, in_window))

    def state(self) -> Mapping[str, nn.Module]:
        """Return the state of the fused logits' criterion; the detail's criterion has none."""
        return self.fused.state()

    def numbers(self) -> dict[str, Tensor]:
        """Return the numbers of the fused logits' criterion."""
        return self.fused.numbers()

    def _both(self, fused: Tensor, detail: Tensor) -> Tensor:
        return (1 - self.strength) * fused + self.strength * detail
