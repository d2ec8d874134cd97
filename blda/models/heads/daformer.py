"""The DAFormer head: context-aware fusion of a feature pyramid (Hoyer et al., CVPR 2022, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blda.models.heads.pyramid_head import PyramidHead
from blda.models.layers import conv_norm_act


class SeparableASPP(nn.Module):
    """Parallel 1x1 and dilated depthwise-separable 3x3 convolutions, joined by a 3x3 bottleneck.

    (B, inputs, H, W) -> (B, outputs, H, W). A dilation of 1 makes the 1x1 branch.
    """

    def __init__(
        self, inputs: int, outputs: int, dilations: Sequence[int] = (1, 6, 12, 18), norm: str = "batch"
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(self._branch(inputs, outputs, dilation, norm) for dilation in dilations)
        self.bottleneck = conv_norm_act(len(dilations) * outputs, outputs, 3, norm=norm)

    @staticmethod
    def _branch(inputs: int, outputs: int, dilation: int, norm: str) -> nn.Module:
        pointwise = conv_norm_act(inputs, outputs, 1, norm=norm)
        if dilation == 1:
            return pointwise
        depthwise = conv_norm_act(inputs, inputs, 3, dilation=dilation, groups=inputs, norm=norm)
        return nn.Sequential(depthwise, pointwise)

    def forward(self, x: Tensor) -> Tensor:
        # On a CPU, a dilated depthwise convolution takes 4.5 times as long on a channels-last map.
        x = x if x.is_cuda else x.contiguous()
        return self.bottleneck(torch.cat([branch(x) for branch in self.branches], dim=1))


class DAFormerHead(PyramidHead):
    """Head that resizes every level to the finest one and fuses them with a separable ASPP.

    `PyramidHead` documents the parameters; the paper uses embed = 256.
    """

    @staticmethod
    def fusion(inputs: int, outputs: int, norm: str) -> nn.Module:
        return SeparableASPP(inputs, outputs, norm=norm)

    def decode(self, features: list[Tensor]) -> Tensor:
        """Fuse the levels: (B, width, h_0, w_0)."""
        size = features[0].shape[-2:]
        embedded = [embed(level) for embed, level in zip(self.embed, features, strict=True)]
        same_size = [embedded[0]] + [
            F.interpolate(level, size=size, mode="bilinear", align_corners=False) for level in embedded[1:]
        ]
        return self.fuse(torch.cat(same_size, dim=1))
