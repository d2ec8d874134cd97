"""The SegFormer head: an all-MLP decoder (Xie et al., NeurIPS 2021, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blda.models.layers import conv_norm_act


class SegFormerHead(nn.Module):
    """Embed every level linearly, bring all to the finest level's size, fuse linearly with norm and ReLU, classify.

    channels: of the encoder's levels, fine to coarse. embed: width of each embedding and of the fusion (the authors
    take 256 with MiT-B0 and B1, 768 with the larger ones). dropout: share of feature channels dropped before the
    classifier, in training only. norm: 'batch' or 'group'. features: list of (B, channels[i], h_i, w_i) -> logits
    (B, classes, h_0, w_0).
    """

    def __init__(
        self, channels: Sequence[int], classes: int, embed: int = 256, dropout: float = 0.1, norm: str = "batch"
    ) -> None:
        super().__init__()
        self.width = embed
        self.embed = nn.ModuleList(nn.Conv2d(level, embed, 1) for level in channels)
        self.fuse = conv_norm_act(embed * len(channels), embed, 1, norm=norm)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(embed, classes, 1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.classify(self.decode(features))

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

    def classify(self, decoded: Tensor) -> Tensor:
        """Logits (B, classes, h_0, w_0) of fused features."""
        return self.classifier(self.dropout(decoded))
