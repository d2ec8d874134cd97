"""Statistics that remember the evidence of past batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from blda.balance import logit_grid
from blda.balance.logit_statistics import EM_ITERATIONS, LogitStatistics


class PooledStatistics(LogitStatistics):
    """Mixtures fitted to the evidence of this and, with falling weight, all earlier batches.

    A batch of whole images has a handful of every class. A mixture fitted to three logits is too narrow, and so is the
    average of many such (measured at 2.7 images a class and batch: two thirds of the true deviation), but counts add.

    memory: weight of a batch in the next one's fit; a class rests on 1 / (1 - memory) times its images in a batch.
    Other keywords as for `LogitStatistics`; `min_pixels` counts images here, remembered ones too.
    """

    remembered: Tensor

    def __init__(self, num_classes: int, memory: float = 0.95, **keywords: Any) -> None:
        super().__init__(num_classes, **keywords)
        if not 0 <= memory < 1:
            raise ValueError(f"memory {memory} of the statistics must be at least 0 and below 1")
        self.memory = memory
        self.register_buffer("remembered", torch.zeros(num_classes, num_classes, logit_grid.BINS, dtype=torch.float64))

    @torch.no_grad()
    def fit(self, counts: Tensor, iterations: int = EM_ITERATIONS) -> None:
        """Remember the evidence (C, C, BINS), and fit to all that is remembered."""
        self.remembered.mul_(self.memory).add_(self._evidence(counts))
        super().fit(self.remembered, iterations)
