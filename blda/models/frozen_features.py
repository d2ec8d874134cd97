"""Features of a pretrained encoder that stays as it is, and the small head that predicts them from a student's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional as F

EXPANSION = 4


class FrozenFeatures(nn.Module):
    """Features of a pretrained encoder: images (B, 3, H, W) in [0, 1] -> (B, channels, h, w) float32, without gradient.

    encoder: pretrained encoder, frozen here. The features are its `pretrained_features(image)`, if it has that method
        because its levels start at random, or else its coarsest level.
    mean, std: normalisation of each colour channel.
    size: (height, width) to which images are resized for the encoder, None for their own.
    autocast: returns a mixed-precision context for the encoder.
    """

    def __init__(
        self,
        encoder: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        size: tuple[int, int] | None = None,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        super().__init__()
        self.encoder, self.size, self.autocast = encoder.requires_grad_(False).eval(), size, autocast
        self.channels: int = getattr(encoder, "pretrained_channels", encoder.channels[-1])
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.as_tensor(values).view(1, 3, 1, 1))

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        if self.size is not None:
            image = F.interpolate(image, self.size, mode="bilinear", align_corners=False)
        image = (image - self.mean) / self.std
        with self.autocast():
            if hasattr(self.encoder, "pretrained_features"):
                return self.encoder.pretrained_features(image).float()
            return self.encoder(image)[-1].float()


def projection(inputs: int, outputs: int) -> nn.Sequential:
    """Build the head of 1 x 1 convolutions from a student's features to frozen ones, as VFM-UDA++ has it."""
    hidden = EXPANSION * inputs
    return nn.Sequential(nn.Conv2d(inputs, hidden, 1), LayerNorm2d(hidden), nn.GELU(), nn.Conv2d(hidden, outputs, 1))
