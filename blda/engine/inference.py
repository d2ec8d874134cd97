"""Predicting an image of any size."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn


class Predictor:
    """Whole images through a model without gradient.

    model: image (B, 3, H, W) -> logits, a network or views of one (blda/models/test_time_augmentation.py). autocast:
    makes the context of mixed precision. calibration: logits -> scores to predict by in their place, a `Calibration`
    of this model.
    """

    def __init__(
        self,
        model: nn.Module,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
        calibration: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.model, self.autocast, self.calibration = model, autocast, calibration

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """image (B, 3, H, W) in [0, 1] -> logits or scores (B, C, H, W) float32; the model's mode is restored."""
        training = self.model.training
        self.model.eval()
        try:
            with self.autocast():
                logits = self.model(image).float()
        finally:
            self.model.train(training)
        return logits if self.calibration is None else self.calibration(logits)
