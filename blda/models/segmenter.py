"""A segmentation network: an encoder, a head, and the normalisation they expect."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Segmenter(nn.Module):
    """image (B, 3, H, W) in [0, 1] -> logits (B, classes, H, W), for any H and W.

    encoder: has `channels: tuple[int, ...]` and `forward(image) -> list[Tensor]`, a feature pyramid from fine to
        coarse. Every encoder here also names the `mean` and `std` that its weights were trained with.
    head: `forward(features) -> logits` at the resolution it likes; they are upsampled bilinearly.
    mean, std: per colour channel, of images in [0, 1].

    The normalisation is saved with the weights that need it.
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
        return self.upsampled(self.head(self.features(image)), image)

    def features(self, image: Tensor) -> list[Tensor]:
        """The encoder's pyramid of an image in [0, 1]."""
        return self.encoder((image - self.mean) / self.std)

    @staticmethod
    def upsampled(output: Tensor, image: Tensor) -> Tensor:
        """A head's output (B, K, h, w) at the image's size."""
        # In float32: autocast would upsample, and add up its gradient, in half precision.
        return F.interpolate(output.float(), size=image.shape[-2:], mode="bilinear", align_corners=False)
