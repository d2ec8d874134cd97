"""The SegFormer head: an all-MLP decoder (Xie et al., NeurIPS 2021, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blda.models.heads.pyramid_head import PyramidHead
from blda.models.layers import conv_norm_act


class SegFormerHead(PyramidHead):
    """Every level at the finest level's size, fused linearly with norm and ReLU; see `PyramidHead`.

    embed: the authors take 256 with MiT-B0 and B1, 768 with the larger ones.
    """

    @staticmethod
    def fusion(inputs: int, outputs: int, norm: str) -> nn.Module:
        return conv_norm_act(inputs, outputs, 1, norm=norm)

    def decode(self, features: list[Tensor]) -> Tensor:
        """The fused features (B, width, h_0, w_0)."""
        # Up to the norm all is linear, and resizing commutes with a 1x1 convolution: so each level goes through the
        # product of its embedding and its share of the fusion at its own size, once, and only the sum is full size.
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
        """Weight (outputs, inputs, 1, 1) and bias (outputs,) of an embedding followed by its share of the fusion."""
        matrix = share.flatten(1)
        return (matrix @ embed.weight.flatten(1))[..., None, None], matrix @ embed.bias
