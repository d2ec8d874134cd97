"""Diagnostics of balanced training: the figure of both domains' statistics and the agreement of their bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from blda.balance.bias_agreement import agreement
from blda.balance.figures import statistics_figure
from blda.balance.logit_statistics import LogitStatistics


class StatisticsDiagnostics:
    """Figures and validation numbers of the logit statistics of source and target.

    source, target: statistics of the two domains.
    class_names: the C class names, in the order of the logits.
    """

    def __init__(self, source: LogitStatistics, target: LogitStatistics, class_names: Sequence[str]) -> None:
        self.source, self.target, self.class_names = source, target, tuple(class_names)

    def figures(self) -> dict[str, Tensor]:
        """Return the figure of all classes as an image (3, H, W) uint8."""
        return {
            "statistics": statistics_figure.pixels(
                statistics_figure.overview(self.source, self.target, self.class_names)
            )
        }

    def validation(self, scores: Mapping[str, float]) -> dict[str, float]:
        """Compare the target's bias, estimated without labels, with the measured bias in `scores`; see `agreement`."""
        return agreement(self.target, scores, self.class_names)
