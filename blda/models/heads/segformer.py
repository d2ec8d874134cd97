"""The SegFormer head: an all-MLP decoder (Xie et al., NeurIPS 2021, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blda.models.heads.pyramid_head import PyramidHead
from blda.models.layers import conv_norm_act


class SegFormerHead(PyramidHead):
    """Head that resizes every level to the finest one and fuses them by a 1x1 convolution with norm and ReLU.

    `PyramidHead` documents the parameters; the authors use embed = 256 with MiT-B0 and B1, and 768 with larger ones.
    """

    @staticmethod
    def fusion(inputs: int, outputs: int, norm: str) -> nn.Module:
        return conv_norm_act(inputs, outputs, 1, norm=norm)

    def decode(self, features: list[Tensor]) -> Tensor:
        """Fuse the levels: (B, width, h_0, w_0)."""
        # All layers up to the norm are linear, and resizing commutes with a 1x1 convolution. So the embedding of a
        # level and its share of the fusion are one convolution, at the level's own size; only the sum is full size.
        shares = self.fuse[0].weight.split(self.width, dim=1)
        pairs = [self._joined(embed, share) for embed, share in zip(self.embed, shares, strict=True)]
        bias = torch.stack([bias for _, bias in pairs]).sum(0)
        finest, *coarser = zip(features, [weight for weight, _ in pairs], strict=True)
        fused = F.conv2d(*finest, bias)
        for level, weight in coarser:
            narrow = F.conv2d(level, weight)
            fused += F.interpolate(narrow, size=fused.shape[-2:], mode="bilinear", align_corners=False)
        return self.fuse[1:](fused)

    @staticmethod
    def _joined(embed: nn.Conv2d, share: Tensor) -> tuple[Tensor, Tensor]:
        """Join an embedding and its share of the fusion: weight (outputs, inputs, 1, 1) and bias (outputs,)."""
        matrix = share.flatten(1)
        return (matrix @ embed.weight.flatten(1))[..., None, None], matrix @ embed.bias
