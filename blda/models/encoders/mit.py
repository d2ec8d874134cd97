"""Mix Transformer encoders MiT-B0..B5 (SegFormer, Xie et al., NeurIPS 2021, section 3.1 and table 6).

Parameter names are those of the authors' published weights, which load without renaming. The epsilons of the norms are
the authors' too: 1e-6 in blocks and after stages, 1e-5 after convolutions (transformers has 1e-5 everywhere). Between
modules a feature map is (B, H, W, C), which serves linear layers as tokens and convolutions as channels-last maps
without a copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from einops import rearrange
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional as F

from blda.models.segmenter import IMAGENET_MEAN, IMAGENET_STD
from blda.models.weights.reading import load_encoder_weights

# Variant: (channels, blocks) per stage.
VARIANTS = {
    "b0": ((32, 64, 160, 256), (2, 2, 2, 2)),
    "b1": ((64, 128, 320, 512), (2, 2, 2, 2)),
    "b2": ((64, 128, 320, 512), (3, 4, 6, 3)),
    "b3": ((64, 128, 320, 512), (3, 4, 18, 3)),
    "b4": ((64, 128, 320, 512), (3, 8, 27, 3)),
    "b5": ((64, 128, 320, 512), (3, 6, 40, 3)),
}
HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
EXPANSION = 4


def apply_conv(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a 2-D convolution to a map (B, H, W, C)."""
    return rearrange(conv(rearrange(x, "b h w c -> b c h w")), "b c h w -> b h w c")


class OverlapPatchEmbed(nn.Module):
    """Patch embedding by overlapping convolution and LayerNorm.

    (B, H, W, inputs) -> (B, H / stride, W / stride, outputs), sizes rounded up.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(apply_conv(self.proj, x))


class EfficientAttention(nn.Module):
    """Self-attention with keys and values of a map that is `reduction` times smaller on each side (eq. 1 and 2)."""

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.reduction = reduction
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        if reduction > 1:
            self.sr = nn.Conv2d(channels, channels, reduction, reduction)
            self.norm = nn.LayerNorm(channels)

    def _reduced(self, x: Tensor) -> Tensor:
        if self.reduction == 1:
            return x
        # Maps smaller than the reduction are padded up to one whole patch; the published network fails on them.
        below, right = (max(self.reduction - side, 0) for side in x.shape[1:3])
        if below or right:
            x = F.pad(x, (0, 0, 0, right, 0, below))
        return self.norm(apply_conv(self.sr, x))

    def forward(self, x: Tensor) -> Tensor:
        query = rearrange(self.q(x), "b h w (head c) -> b head (h w) c", head=self.heads)
        reduced = self.kv(self._reduced(x))
        key, value = rearrange(reduced, "b h w (both head c) -> both b head (h w) c", both=2, head=self.heads)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(rearrange(mixed, "b head (h w) c -> b h w (head c)", h=x.shape[1]))


class DepthwiseConv(nn.Module):
    """3x3 depthwise convolution; its zero padding encodes position (section 3.1, Mix-FFN)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        return apply_conv(self.dwconv, x)


class MixFFN(nn.Module):
    """Linear, depthwise convolution, GELU, linear (eq. 3); (B, H, W, C) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, EXPANSION * channels)
        self.dwconv = DepthwiseConv(EXPANSION * channels)
        self.fc2 = nn.Linear(EXPANSION * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.dwconv(self.fc1(x))))


class Block(nn.Module):
    """Pre-norm transformer block with stochastic depth; (B, H, W, C) -> the same shape."""

    def __init__(self, channels: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = EfficientAttention(channels, heads, reduction)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = MixFFN(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class MiT(nn.Module):
    """Hierarchical transformer encoder with strides 4, 8, 16, 32.

    Normalised images (B, 3, H, W) -> list of (B, channels[i], H / 2^(i+2), W / 2^(i+2)), sizes rounded up.

    variant: 'b0' to 'b5', or the channels and the blocks of the four stages, such as [[8, 16, 40, 64], [1, 2, 1, 1]].
    drop_path: probability of stochastic depth in the last block; it grows linearly from 0 in the first.
    weights: a path, 'hub:nvidia/mit-b5' or 'package:NAME', with the authors' or Hugging Face's parameter names; None
        for random ones.
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(
        self,
        variant: str | Sequence[Sequence[int]] = "b0",
        drop_path: float = 0.1,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.channels, depths = _stages(variant)
        rates = iter(torch.linspace(0, drop_path, sum(depths), device="cpu").tolist())
        inputs = 3
        for i, (outputs, depth) in enumerate(zip(self.channels, depths, strict=True)):
            kernel, stride = (7, 4) if i == 0 else (3, 2)
            blocks = nn.ModuleList(Block(outputs, HEADS[i], REDUCTIONS[i], next(rates)) for _ in range(depth))
            self.add_module(f"patch_embed{i + 1}", OverlapPatchEmbed(inputs, outputs, kernel, stride))
            self.add_module(f"block{i + 1}", blocks)
            self.add_module(f"norm{i + 1}", nn.LayerNorm(outputs, eps=1e-6))
            inputs = outputs
        self.apply(initialise)
        if weights is not None:
            load_encoder_weights(self, weights)

    def forward(self, image: Tensor) -> list[Tensor]:
        features = []
        x = rearrange(image, "b c h w -> b h w c")
        for stage in range(1, len(self.channels) + 1):
            x = getattr(self, f"patch_embed{stage}")(x)
            for block in getattr(self, f"block{stage}"):
                x = block(x)
            x = getattr(self, f"norm{stage}")(x)
            features.append(rearrange(x, "b h w c -> b c h w"))
        return features


def _stages(variant: str | Sequence[Sequence[int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return channels and number of blocks of every stage; ValueError for an unknown variant."""
    if not isinstance(variant, str):
        stages = [tuple(stage) for stage in variant]
        if [len(stage) for stage in stages] != [len(HEADS)] * 2:
            raise ValueError(f"MiT's variant is {variant}; give a name, or channels and blocks of the four stages")
        return stages[0], stages[1]
    if variant not in VARIANTS:
        raise ValueError(f"MiT has no variant '{variant}'; choose one of {', '.join(VARIANTS)}")
    return VARIANTS[variant]


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Initialise a layer as the authors do.

    Linear weights have a truncated normal distribution of standard deviation 0.02, convolutions a normal one of
    variance 2 / fan out; biases are 0.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.zeros_(module.bias)
