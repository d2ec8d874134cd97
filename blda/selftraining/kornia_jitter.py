"""Colour operations of kornia 0.5.8, which the published code uses for its colour jitter.

Later versions of kornia, and torchvision, compute different operations under the same names. An image is
(..., 3, H, W) in [0, 1]; a factor of 1 leaves it unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

_EPSILON = 1e-6  # of the saturation's denominator


def adjust_brightness(image: Tensor, factor: float) -> Tensor:
    """Add factor - 1 to every pixel, dark or bright."""
    return (image + (factor - 1)).clamp(0, 1)


def adjust_contrast(image: Tensor, factor: float) -> Tensor:
    """Multiply by the factor: contrast falls towards black, not towards the image's mean."""
    return (image * factor).clamp(0, 1)


def adjust_saturation(image: Tensor, factor: float) -> Tensor:
    """Multiply the HSV saturation by the factor and clip it at 1; hue and value stay."""
    value = image.amax(-3, keepdim=True)
    spread = value - image.amin(-3, keepdim=True)
    saturation = (factor * spread / (value + _EPSILON)).clamp(0, 1)
    # The hue is the position of each channel between the largest and the smallest one, so all distances to the value
    # grow by the same ratio.
    growth = saturation * value / torch.where(spread == 0, 1, spread)
    return value - (value - image) * growth


def adjust_hue(image: Tensor, factor: float) -> Tensor:
    """Rotate the HSV hue by factor - 1 of the full circle."""
    return F.adjust_hue(image, factor - 1)


OPERATIONS = (adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue)


def jitter(image: Tensor, factors: Sequence[float], order: Sequence[int]) -> Tensor:
    """Apply all four `OPERATIONS` with their factors; order: indices of the operations, first to last."""
    for index in order:
        image = OPERATIONS[index](image, factors[index])
    return image
