"""Convolutional pyramid of the image, beside a plain ViT: the spatial prior of ViT-Adapter (Chen et al., ICLR 2023)."""

from __future__ import annotations

from itertools import pairwise

from timm.layers import LayerNorm2d
from torch import Tensor, nn

CHANNELS = (64, 128, 256, 256)
"""Channels of the levels before they are brought to a common width (ViT-Adapter, spatial prior module)."""


def _reduce(inputs: int, outputs: int, stride: int = 2) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, LayerNorm2d(outputs), nn.GELU())


class SpatialPrior(nn.Module):
    """Convolutional pyramid: images (B, 3, H, W) -> four levels (B, width, h_i, w_i) of strides 4, 8, 16 and 32.

    Sizes are rounded up. Norms are over the channels of a pixel instead of the batch, so that a result does not depend
    on how a batch is split over processes.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        first = CHANNELS[0]
        stem = (_reduce(3, first), _reduce(first, first, 1), _reduce(first, first, 1), nn.MaxPool2d(3, 2, padding=1))
        strided = (_reduce(inputs, outputs) for inputs, outputs in pairwise(CHANNELS))
        self.stages = nn.ModuleList((nn.Sequential(*stem), *strided))
        self.widths = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in CHANNELS)

    def forward(self, image: Tensor) -> list[Tensor]:
        levels = []
        for stage, to_width in zip(self.stages, self.widths, strict=True):
            image = stage(image)
            levels.append(to_width(image))
        return levels
