"""The teacher: an exponential moving average of the student."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Teacher(nn.Module):
    """Exponential moving average of the student's parameters (METHOD 6), predicting without gradient.

    As in the published code, parameters are averaged, dropout and drop-path are off, and BatchNorm normalises with the
    statistics of the batch.

    student: the model without its DDP wrapper; the teacher starts as a copy of it.
    momentum: upper limit of alpha = min(1 - 1 / (i + 2), momentum) after i updates; the first update has alpha 1 / 2.
    autocast: returns a mixed-precision context; Accelerate adds one to wrapped models only.
    """

    def __init__(
        self,
        student: nn.Module,
        momentum: float = 0.999,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        super().__init__()
        self.model = copy.deepcopy(student).requires_grad_(False)
        self.momentum, self.autocast, self.updates = momentum, autocast, 0
        self.train(False)

    def train(self, mode: bool = True) -> Teacher:
        """Keep the teacher's only mode, whatever `mode` is: all modules in eval mode but BatchNorm."""
        self.training = False
        self.model.eval()
        for module in self.model.modules():
            if isinstance(module, _BatchNorm):
                module.train()
        return self

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Predict logits (B, C, H, W) float32 of images (B, 3, H, W)."""
        with self.autocast():
            return self.model(image).float()

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Update the parameters after an optimizer step: theta <- alpha theta + (1 - alpha) student.

        student: the model without its DDP wrapper.
        """
        alpha = min(1 - 1 / (self.updates + 2), self.momentum)
        torch._foreach_lerp_(list(self.model.parameters()), list(student.parameters()), 1 - alpha)
        self.updates += 1

    def get_extra_state(self) -> Tensor:
        """Return the update counter, which is saved with the weights."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the update counter."""
        self.updates = int(state)
