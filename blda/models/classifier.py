"""An image classifier: an encoder, a head on its pooled features, and the normalisation they expect."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from blda.models.layers import conv_norm_act
from blda.models.segmenter import IMAGENET_MEAN, IMAGENET_STD


class LinearHead(nn.Module):
    """The coarsest level, averaged over the image, then a linear classifier.

    channels: of the encoder's levels; only the last is read. bottleneck: width of a layer with norm and ReLU in
    between, None for none. norm: its kind; 'batch' wants at least two images a batch, 'group' takes one.
    list of features -> logits (B, classes).
    """

    def __init__(
        self, channels: Sequence[int], classes: int, bottleneck: int | None = None, norm: str = "batch"
    ) -> None:
        super().__init__()
        width = bottleneck or channels[-1]
        self.bottleneck = conv_norm_act(channels[-1], width, 1, norm=norm) if bottleneck else nn.Identity()
        self.classifier = nn.Linear(width, classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features: list[Tensor]) -> Tensor:
        pooled = features[-1].mean((2, 3), keepdim=True)
        return self.classifier(self.bottleneck(pooled).flatten(1))


class Classifier(nn.Module):
    """image (B, 3, H, W) in [0, 1] -> logits (B, classes) float32, for any H and W.

    encoder, mean, std: as for `Segmenter`. head: `forward(features) -> logits (B, classes)`.
    Parameter names start with `encoder.` or `head.`: the optimizer tells them apart by that.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.encoder((image - self.mean) / self.std)).float()
