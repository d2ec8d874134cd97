"""Windows of whole images: random ones for training, the centre for evaluation."""

from __future__ import annotations

import math

import numpy as np
import torch

from blda.data.transforms import Geometry, RandomCrop, Resize, Size, random_geometry

ASPECT = (3 / 4, 4 / 3)
"""Width over height of a drawn window, as is usual for classifiers."""


class RandomResizedCrop(RandomCrop):
    """Window of random size, shape and place, scaled to one size and mirrored with probability 1/2 (Szegedy 2015).

    scale: smallest and largest share of the image's area. resize: (H, W) that the image is resized to first, or the
    rule for it, None for its own size; the window is drawn in the resized image. crop: (H, W) of the result.
    A window that exceeds the image is cut to fit.
    """

    def __init__(
        self, scale: tuple[float, float], crop: Size | None, resize: Resize | Size | None = None, flip: bool = True
    ) -> None:
        super().__init__(resize, crop, flip)
        if crop is None:
            raise ValueError("windows of random scale need a size to be scaled to; set the crop")
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale {list(scale)} must be two shares of the area, 0 < least <= largest <= 1")
        self.scale = scale

    def random_geometry(
        self, generator: torch.Generator, shape: Size, label: np.ndarray | None = None, wanted: int | None = None
    ) -> Geometry:
        """Draw the geometry for an image of (H, W) `shape`; `label` and `wanted` have no effect."""
        height, width = self.resize(shape)
        share, aspect = torch.rand(2, generator=generator).tolist()
        area = height * width * (self.scale[0] + share * (self.scale[1] - self.scale[0]))
        ratio = math.exp(math.log(ASPECT[0]) + aspect * math.log(ASPECT[1] / ASPECT[0]))
        window = min(math.sqrt(area / ratio), height), min(math.sqrt(area * ratio), width)
        # Scaling the image until the window has the crop's size, then cutting it, is one resize and one cut.
        size = round(height * self.crop[0] / window[0]), round(width * self.crop[1] / window[1])
        return random_geometry(generator, size, self.crop, self.flip)


def center_crop(size: Size, crop: Size | None) -> Geometry:
    """Build the geometry that resizes to `size`, then cuts `crop` from the middle, None for all of it."""
    height, width = crop or size
    if height > size[0] or width > size[1]:
        raise ValueError(f"centre {(height, width)} is larger than the image {tuple(size)} (height, width); reduce it")
    return Geometry(tuple(size), (size[0] - height) // 2, (size[1] - width) // 2, height, width, flip=False)
