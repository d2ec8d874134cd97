"""Image masking: random blocks are hidden from the student, which has to infer them from their context."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from blda.data import seeding

Augment = Callable[[Tensor, tuple[int, ...]], Tensor]
"""Augmentation of a batch: (image (B, 3, H, W), draw (B numbers)) -> image; row b depends on its image and draw."""


class BlockMask:
    """Augmentation followed by hiding random blocks of the image (MIC, Hoyer et al., CVPR 2023).

    augment: augmentation that is applied before masking.
    seed: seed of the choice of blocks.
    block: approximate height and width of a block in pixels; a whole number of blocks tiles the image.
    ratio: probability that a block is hidden.
    fill: colour of hidden blocks, one number or (H, W) plane a channel; the network's mean makes its input 0.
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
            raise ValueError(f"mask: block is {block}, ratio {ratio}; use a block of at least 1 and a ratio in [0, 1]")
        self.augment, self.seed, self.block, self.ratio, self.fill = augment, seed, block, ratio, tuple(fill)

    def __call__(self, image: Tensor, draw: tuple[int, ...]) -> Tensor:
        """Augment and mask images (B, 3, H, W) in [0, 1]; row b depends on (seed, draw[b])."""
        rows, columns = (max(1, round(side / self.block)) for side in image.shape[-2:])
        visible = seeding.uniform(self.seed, "mask", draw, rows * columns) >= self.ratio
        visible = visible.to(image.device, non_blocking=True).view(-1, 1, rows, columns)
        visible = F.interpolate(visible.to(image.dtype), image.shape[-2:], mode="nearest")[:, 0] > 0
        planes = zip(self.augment(image, draw).unbind(1), self.fill, strict=True)
        return torch.stack([torch.where(visible, plane, colour) for plane, colour in planes], 1)
