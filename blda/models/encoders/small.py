"""A small encoder that trains from scratch in minutes on two CPU cores."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from blda.models.layers import conv_norm_act, make_norm
from blda.models.segmenter import IMAGENET_MEAN, IMAGENET_STD


class Residual(nn.Module):
    """Residual block of two 3x3 convolutions (He et al. 2016), (B, C, H, W) -> the same shape.

    It starts as the identity followed by a ReLU.
    """

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.first = conv_norm_act(channels, channels, 3, norm=norm)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = make_norm(norm, channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.second(self.first(x))))


class SmallEncoder(nn.Module):
    """Plain residual network with strides 4, 8, 16, 32.

    Normalised images (B, 3, H, W) -> list of (B, channels[i], H / 2^(i+2), W / 2^(i+2)), sizes rounded up. It uses
    full 3x3 convolutions, because depthwise ones run far below a CPU's peak, and most channels where maps are small.

    channels: channels of each stage.
    depths: number of residual blocks after the strided convolution of each stage.
    norm: 'batch', or 'group', whose result does not depend on how a batch is split over processes.
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128, 192),
        depths: Sequence[int] = (0, 1, 1, 1),
        norm: str = "batch",
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.stem = conv_norm_act(3, channels[0], 3, stride=2, norm=norm)
        self.stages = nn.ModuleList()
        inputs = channels[0]
        for outputs, depth in zip(channels, depths, strict=True):
            reduce = conv_norm_act(inputs, outputs, 3, stride=2, norm=norm)
            self.stages.append(nn.Sequential(reduce, *(Residual(outputs, norm) for _ in range(depth))))
            inputs = outputs

    def forward(self, image: Tensor) -> list[Tensor]:
        features = []
        x = self.stem(image)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features
