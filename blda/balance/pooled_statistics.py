"""Statistics fitted to pooled histograms, those of the current batch and of past batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from blda.balance import logit_grid
from blda.balance.logit_statistics import EM_ITERATIONS, LogitStatistics


class PooledStatistics(LogitStatistics):
    """Mixtures fitted to the histograms of the current batch and, with falling weight, of all earlier batches.

    A batch of an image classifier holds only a few images of every class. A mixture fitted to three logits is too
    narrow, and so is the average of many such mixtures: measured with 2.7 images a class and batch, its standard
    deviation is two thirds of the true one. Sums of histograms have no such bias.

    memory: weight of a batch in the fit of the next one, in [0, 1). A class is fitted to 1 / (1 - memory) times the
        images that it has in a batch.
    keywords: further arguments of `LogitStatistics`; `min_pixels` counts images, those of earlier batches included.
    """

    remembered: Tensor

    def __init__(self, num_classes: int, memory: float = 0.95, **keywords: Any) -> None:
        super().__init__(num_classes, **keywords)
        if not 0 <= memory < 1:
            raise ValueError(f"memory of the statistics is {memory}; it must be at least 0 and below 1")
        self.memory = memory
        self.register_buffer("remembered", torch.zeros(num_classes, num_classes, logit_grid.BINS, dtype=torch.float64))

    @torch.no_grad()
    def fit(self, counts: Tensor, iterations: int = EM_ITERATIONS) -> None:
        """Add histograms (C, C, BINS) to the pool, and fit the mixtures to the pool."""
        self.remembered.mul_(self.memory).add_(self._histograms(counts))
        super().fit(self.remembered, iterations)
