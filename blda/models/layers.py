"""Layers that several networks share."""

from __future__ import annotations

import math

from torch import nn


def make_norm(kind: str, channels: int) -> nn.Module:
    """Build a normalisation layer.

    kind: 'batch' for BatchNorm2d, or 'group' for GroupNorm of up to 8 groups, which normalises each image by itself.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(channels, 8), channels)
    raise ValueError(f"norm is '{kind}'; choose 'batch' or 'group'")


def conv_norm_act(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    norm: str = "batch",
) -> nn.Sequential:
    """Build convolution without bias, normalisation and ReLU.

    Maps (B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride)).
    """
    padding = dilation * (kernel - 1) // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)
    # Fan out counts every output channel, also of a depthwise convolution, as in the published heads (mmcv).
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, make_norm(norm, outputs), nn.ReLU(inplace=True))
