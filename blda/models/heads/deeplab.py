"""The DeepLab-v2 head (Chen et al., TPAMI 2018): one dilated classifier per scale, summed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DeepLabV2Head(nn.Module):
    """Sum of dilated 3x3 classifiers on the coarsest level: list of features -> logits (B, classes, h, w).

    channels: channels of the encoder's levels; only the last is read.
    num_classes: number of classes.
    dilations: dilation of each classifier.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, dilations: Sequence[int] = (6, 12, 18, 24)) -> None:
        super().__init__()
        self.classifiers = nn.ModuleList(
            nn.Conv2d(channels[-1], num_classes, 3, padding=dilation, dilation=dilation) for dilation in dilations
        )
        for classifier in self.classifiers:
            nn.init.normal_(classifier.weight, std=0.01)
            nn.init.zeros_(classifier.bias)

    def forward(self, features: list[Tensor]) -> Tensor:
        return torch.stack([classifier(features[-1]) for classifier in self.classifiers]).sum(0)
