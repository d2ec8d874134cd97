"""The loss of HRDA's detail by itself, beside that of the fused logits (Hoyer et al., ECCV 2022, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import Sample
from blda.models.output import Output
from blda.selftraining.criterion import Criterion


class HRDADetailLoss:
    """(1 - strength) L(fused logits) + strength L_d(the detail's logits) on the detail's window of the same labels.

    fused: L, what a batch costs without this; it gets the whole `Output`. detail: L_d, its innermost part; of the same
    kind, but for balanced losses, whose statistics are of fused logits: there it is plain. strength: lambda_d.
    """

    def __init__(self, fused: Criterion, detail: Criterion, strength: float = 0.1) -> None:
        if not 0 <= strength <= 1:
            raise ValueError(f"model.hrda.strength is {strength}; it must be within 0 and 1")
        self.fused, self.detail, self.strength = fused, detail, strength

    def source_loss(self, output: Output, source: Sample) -> Tensor:
        """Both losses of a source batch."""
        logits, window = output.detail
        seen = replace(source, image=window.of(source.image), label=window.of(source.label))
        return self._both(self.fused.source_loss(output, source), self.detail.source_loss(logits, seen))

    def mixed_loss(self, output: Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """Both losses of a mixed batch, its target pixels weighted by their trust."""
        logits, window = output.detail
        seen = Mixed(*map(window.of, (mixed.image, mixed.label, mixed.weight, mixed.from_source)))
        in_window = PseudoLabels(window.of(pseudo.label), window.of(pseudo.weight))
        return self._both(self.fused.mixed_loss(output, mixed, pseudo), self.detail.mixed_loss(logits, seen, in_window))

    def state(self) -> Mapping[str, nn.Module]:
        """What survives a restart of the fused logits' loss."""
        return self.fused.state()

    def numbers(self) -> dict[str, Tensor]:
        """Those of the fused logits' loss."""
        return self.fused.numbers()

    def _both(self, fused: Tensor, detail: Tensor) -> Tensor:
        return (1 - self.strength) * fused + self.strength * detail
