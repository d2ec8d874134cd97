"""Masked images: blocks hidden from the student, so that it learns from what is around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from blda.data import seeding

Augment = Callable[[Tensor, tuple[int, ...]], Tensor]
"""(image (B, 3, H, W), B draws) -> image; row b a function of its image and its draw."""


class BlockMask:
    """An augmentation, after which blocks of the image are hidden at random (MIC, Hoyer et al., CVPR 2023).

    augment: done first. seed: of the choice. block: about the height and width of a block in pixels; whole blocks tile
    the image. ratio: probability that one is hidden. fill: colour of hidden ones; the mean that the network subtracts.
    """

    def __init__(
        self,
        augment: Augment,
        seed: int,
        block: int = 64,
        ratio: float = 0.7,
        fill: Sequence[float | Tensor] = (0.5, 0.5, 0.5),
    ) -> None:
        if block < 1 or not 0 <= ratio <= 1:
            raise ValueError(f"mask of block {block} and ratio {ratio}; a block has pixels, a ratio is within 0 and 1")
        self.augment, self.seed, self.block, self.ratio, self.fill = augment, seed, block, ratio, tuple(fill)

    def __call__(self, image: Tensor, draw: tuple[int, ...]) -> Tensor:
        """image: (B, 3, H, W) in [0, 1] -> the same; row b is a function of (seed, draw[b])."""
        rows, columns = (max(1, round(side / self.block)) for side in image.shape[-2:])
        seen = seeding.uniform(self.seed, "mask", draw, rows * columns) >= self.ratio
        seen = seen.to(image.device, non_blocking=True).view(-1, 1, rows, columns)
        seen = F.interpolate(seen.to(image.dtype), image.shape[-2:], mode="nearest")[:, 0] > 0
        planes = zip(self.augment(image, draw).unbind(1), self.fill, strict=True)
        return torch.stack([torch.where(seen, plane, colour) for plane, colour in planes], 1)
