"""Supervised training: the source-only baseline, or the oracle if the labelled data is the target's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from blda.data.sample import Sample
from blda.selftraining.criterion import Criterion


class Supervised:
    """Supervised training on the labelled batch; the target batch is not used and may be None."""

    def __init__(self, student: nn.Module, criterion: Criterion) -> None:
        self.student, self.criterion = student, criterion

    def losses(self, source: Sample, target: Sample | None) -> Iterator[tuple[str, Tensor]]:
        """Yield the loss of the labelled batch under the name "source"."""
        yield "source", self.criterion.source_loss(self.student(source.image), source)

    def after_step(self, student: nn.Module) -> None:
        """Do nothing: there is no teacher to update."""

    def numbers(self) -> dict[str, Tensor]:
        """Return no numbers: the loss is logged by the trainer."""
        return {}

    def pictures(self) -> dict[str, Tensor]:
        """Return no pictures: evaluation shows its own."""
        return {}

    def figures(self) -> dict[str, Tensor]:
        """Return no figures: there are no statistics to draw."""
        return {}

    def validation(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Return no numbers beside the scores of the evaluation."""
        return {}

    def state(self) -> dict[str, nn.Module]:
        """Return no state: the trainer saves the student."""
        return {}
