"""Training on labels alone: the source-only baseline, and the oracle when the labelled data is the target's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from blda.data.sample import Sample
from blda.selftraining.criterion import Criterion


class Supervised:
    """Cross-entropy on the labelled batch; the target batch is not looked at and may be None."""

    def __init__(self, student: nn.Module, criterion: Criterion) -> None:
        self.student, self.criterion = student, criterion

    def losses(self, source: Sample, target: Sample | None) -> Iterator[tuple[str, Tensor]]:
        """Yield the one loss."""
        yield "source", self.criterion.source_loss(self.student(source.image), source)

    def after_step(self, student: nn.Module) -> None:
        """Nothing follows a step."""

    def numbers(self) -> dict[str, Tensor]:
        """Nothing beside the loss."""
        return {}

    def pictures(self) -> dict[str, Tensor]:
        """Nothing beside what evaluation shows."""
        return {}

    def figures(self) -> dict[str, Tensor]:
        """Return no figure: there are no statistics to draw."""
        return {}

    def validation(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Return no number beside the scores."""
        return {}

    def state(self) -> dict[str, nn.Module]:
        """Nothing but the student, which the trainer keeps."""
        return {}
