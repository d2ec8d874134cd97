"""A segmentation network: an encoder, a head, and the normalisation they expect."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Segmenter(nn.Module):
    """Segmentation network: images (B, 3, H, W) in [0, 1] -> logits (B, classes, H, W), for any H and W.

    encoder: module with `channels: tuple[int, ...]` and `forward(image) -> list[Tensor]`, a feature pyramid from fine
        to coarse. The encoders of this package also have the `mean` and `std` that their weights were trained with.
    head: module with `forward(features) -> logits` at any resolution; the logits are upsampled bilinearly.
    mean, std: normalisation of each colour channel, for images in [0, 1]. It is saved with the weights.

    Parameter names start with `encoder.` or `head.`, by which the optimizer distinguishes them.
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
        """Normalise an image in [0, 1], and return the encoder's feature pyramid."""
        return self.encoder((image - self.mean) / self.std)

    @staticmethod
    def upsampled(output: Tensor, image: Tensor) -> Tensor:
        """Upsample a head's output (B, K, h, w) to the image's size, in float32."""
        # Under autocast, the gradient would be summed in half precision.
        return F.interpolate(output.float(), size=image.shape[-2:], mode="bilinear", align_corners=False)
