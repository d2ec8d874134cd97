"""Prediction of images of any size."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn


class Predictor:
    """Predictor of whole images, without gradient.

    model: image (B, 3, H, W) -> logits; a network, or one with test-time augmentation
    (blda/models/test_time_augmentation.py). autocast: builds the context of mixed precision. calibration: logits ->
    scores to predict from instead, a `Calibration` of this model.
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
        """Predict logits or scores (B, C, H, W) float32 of an image (B, 3, H, W) in [0, 1], in evaluation mode.

        Raises ValueError naming the size of an image that the network does not take, such as one of a few pixels.
        """
        training = self.model.training
        self.model.eval()
        try:
            with self.autocast():
                logits = self.model(image).float()
        except ValueError as error:
            size = " x ".join(map(str, image.shape[2:]))
            raise ValueError(f"an image of {size} pixels cannot be predicted ({error}); leave it out") from error
        finally:
            self.model.train(training)
        return logits if self.calibration is None else self.calibration(logits)
