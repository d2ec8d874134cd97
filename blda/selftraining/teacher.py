"""The teacher: an exponential moving average of the student."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class Teacher(nn.Module):
    """EMA of the student's parameters (METHOD 6), predicting without gradient.

    Published behaviour: parameters are averaged, dropout and drop-path are off, BatchNorm uses the batch.

    student: the bare model; it is copied, so the first update is the mean of both, alpha = 1 / 2. momentum: ceiling of
    alpha = min(1 - 1 / (i + 2), momentum), i updates before.
    autocast: makes the context of mixed precision; only wrapped models get it from Accelerate by themselves.
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
        """The teacher has one mode only; see the class."""
        self.training = False
        self.model.eval()
        for module in self.model.modules():
            if isinstance(module, _BatchNorm):
                module.train()
        return self

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """image: (B, 3, H, W) -> logits (B, C, H, W) float32."""
        with self.autocast():
            return self.model(image).float()

    @torch.no_grad()
    def update(self, student: nn.Module) -> None:
        """Move towards the bare student: theta <- alpha theta + (1 - alpha) student, after each optimizer step."""
        alpha = min(1 - 1 / (self.updates + 2), self.momentum)
        torch._foreach_lerp_(list(self.model.parameters()), list(student.parameters()), 1 - alpha)
        self.updates += 1

    def get_extra_state(self) -> Tensor:
        """The update counter, saved with the weights."""
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        self.updates = int(state)
