"""Photometric augmentation of a batch on its device."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from blda import rng

_BLUR_TAPS = 11  # more than four deviations of the strongest blur on each side


class ColourAndBlur:
    """Colour jitter and Gaussian blur of the mixed image (METHOD 6).

    strength: brightness, contrast, saturation and hue move by at most this much. jitter, blur: their probabilities.
    The published `p = 0.2` of the jitter is the threshold that a uniform number must exceed, thus 0.8 here.
    """

    def __init__(self, seed: int, strength: float = 0.2, jitter: float = 0.8, blur: float = 0.5) -> None:
        self.seed, self.strength, self.jitter, self.blur = seed, strength, jitter, blur

    def __call__(self, image: Tensor, draw: tuple[int, ...]) -> Tensor:
        """image: (B, 3, H, W) in [0, 1] -> the same; row b is a function of (seed, draw[b])."""
        numbers = rng.uniform(self.seed, "photometric", draw, 7).tolist()
        return torch.stack([self._one(one, *row) for one, row in zip(image, numbers, strict=True)])

    def _one(self, image: Tensor, jitter: float, *numbers: float) -> Tensor:
        *factors, blur, sigma = numbers
        if jitter < self.jitter:
            brightness, contrast, saturation, hue = ((2 * f - 1) * self.strength for f in factors)
            image = F.adjust_brightness(image, 1 + brightness)
            image = F.adjust_contrast(image, 1 + contrast)
            image = F.adjust_saturation(image, 1 + saturation)
            image = F.adjust_hue(image, hue)
        if blur < self.blur:
            image = F.gaussian_blur(image, [_BLUR_TAPS, _BLUR_TAPS], [0.15 + sigma, 0.15 + sigma])
        return image
