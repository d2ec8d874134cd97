"""Rules that label every pixel from all that is known about it: the key alone, and ours."""

from __future__ import annotations

import torch
from torch import Tensor

from blda_video.rules.rule import Combined, everywhere

FLOOR = 1e-6
"""Least probability under a logarithm: no frame alone can rule a class out."""


class KeyAlone:
    """`none`: the key frame alone, as for images."""

    needs_context = False

    def __call__(self, key: Tensor, pulled: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        return Combined(key, everywhere(key))


class Trajectory:
    """`trajectory`: the average of all valid beliefs about a surface point, weighted by confidence (METHOD 7, ours).

    Frames count alike at every distance, as validity already sorts out what long flow gets wrong. Errors that change
    from frame to frame cancel, those that persist remain.

    mean: "geometric" (of probabilities, which averages logits) or "arithmetic". power: a belief weighs its largest
    probability to this power; 0 counts all valid frames alike.
    """

    needs_context = True

    def __init__(self, mean: str = "geometric", power: float = 1.0) -> None:
        if mean not in ("geometric", "arithmetic"):
            raise ValueError(f"rule: trajectory has no mean '{mean}'; use geometric or arithmetic")
        if not isinstance(power, (int, float)) or not power >= 0:
            raise ValueError(f"rule: power is {power!r}; use a number of at least 0, which counts all frames alike")
        self.geometric, self.power = mean == "geometric", power

    def __call__(self, key: Tensor, pulled: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        own = key.amax(1).pow(self.power)
        weight = torch.where(valid, pulled.amax(2).pow(self.power), 0)
        if self.geometric:
            pooled = self._mean(key.clamp(min=FLOOR).log(), pulled.clamp(min=FLOOR).log(), own, weight).softmax(1)
        else:
            pooled = self._mean(key, pulled, own, weight)
        # Chosen, not computed: where nothing is valid the key's belief is kept bit for bit.
        return Combined(torch.where(valid.any(1, keepdim=True), pooled, key), everywhere(key))

    @staticmethod
    def _mean(key: Tensor, pulled: Tensor, own: Tensor, weight: Tensor) -> Tensor:
        """The weighted mean over the key and the context, (B, C, H, W)."""
        total = key * own[:, None] + torch.einsum("bkhw,bkchw->bchw", weight, pulled)
        return total / (own + weight.sum(1))[:, None]
