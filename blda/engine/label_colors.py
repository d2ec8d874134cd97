"""Colours of label maps and weights."""

from __future__ import annotations

import colorsys

import torch
from torch import Tensor

from blda.data.sample import IGNORE

CITYSCAPES = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
    (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142),
    (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip
"""The field's colours of the 19 Cityscapes classes."""


def palette(num_classes: int) -> Tensor:
    """Return (256, 3) uint8: Cityscapes' colours for 19 classes, else hues far apart; IGNORE is black."""
    table = torch.zeros(256, 3, dtype=torch.uint8)
    for index in range(num_classes):
        hue = colorsys.hsv_to_rgb(index * 0.618 % 1, 0.65, 0.95 - 0.4 * (index % 3) / 2)
        colour = CITYSCAPES[index] if num_classes == len(CITYSCAPES) else tuple(int(255 * part) for part in hue)
        table[index] = torch.tensor(colour, dtype=torch.uint8)
    table[IGNORE] = 0
    return table


def to_rgb(item: Tensor, num_classes: int) -> Tensor:
    """Convert to an RGB image (3, H, W) uint8.

    item: image (3, H, W) float, label map (H, W) int64 or weight map (H, W) float.
    """
    if item.ndim == 3:
        return (item.clamp(0, 1) * 255).round().byte()
    if item.dtype == torch.int64:
        return palette(num_classes)[item].permute(2, 0, 1)
    return (item.clamp(0, 1) * 255).round().byte().expand(3, -1, -1)
