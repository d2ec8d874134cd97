"""Photometric augmentation of a batch on its device."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from blda.data import seeding
from blda.selftraining import kornia_jitter

_BLUR_TAPS = 11  # more than four standard deviations of the strongest blur on each side
_MOST_TAPS = 17  # weights farther out are below 1e-10 of the central one


class ColourAndBlur:
    """Colour jitter and Gaussian blur of the mixed image, decided for each image (METHOD 6).

    seed: seed of every random number.
    strength: largest change of the brightness, contrast, saturation and hue factors.
    jitter: probability of colour jitter. The published `p = 0.2` is the threshold that a uniform number must exceed,
        so its probability is 0.8.
    blur: probability of blur.
    """

    def __init__(self, seed: int, strength: float = 0.2, jitter: float = 0.8, blur: float = 0.5) -> None:
        self.seed, self.strength, self.jitter, self.blur = seed, strength, jitter, blur

    def __call__(self, image: Tensor, draw: tuple[int, ...]) -> Tensor:
        """Augment images (B, 3, H, W) in [0, 1] to the same shape and range; row b depends on (seed, draw[b])."""
        numbers = seeding.uniform(self.seed, "photometric", draw, 7).tolist()
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


class PublishedColourAndBlur:
    """Colour jitter and Gaussian blur of DACS, DAFormer, HRDA and MIC, with kornia 0.5.8's operations.

    Jitter is switched on or off for a whole batch, and so is blur. Each image has its own four factors, applied in a
    random order (lhoyer/MIC: dacs_transforms.py). The result does not depend on how a batch is split over processes.

    seed: seed of every random number.
    batch: number of images in the global batch, over all processes.
    strength: brightness, contrast and saturation factors lie within 1 +- strength, hue within +- strength of a full
        turn.
    jitter, blur: probabilities of the two operations.
    together: share the order of the operations and the standard deviation of the blur within a batch, which MIC does
        for masked images but not for mixed ones.
    """

    def __init__(
        self,
        seed: int,
        batch: int,
        strength: float = 0.2,
        jitter: float = 0.8,
        blur: float = 0.5,
        together: bool = False,
    ) -> None:
        self.seed, self.batch, self.strength, self.jitter, self.blur = seed, batch, strength, jitter, blur
        self.together = together

    def __call__(self, image: Tensor, draw: tuple[int, ...]) -> Tensor:
        """Augment images (B, 3, H, W) in [0, 1] to the same shape and range.

        Row b depends on (seed, draw[b], draw[b] // batch).
        """
        return torch.stack([self._one(one, number) for one, number in zip(image, draw, strict=True)])

    def _one(self, image: Tensor, draw: int) -> Tensor:
        batch = draw // self.batch
        of_batch = seeding.generator(self.seed, "photometric batch", batch)
        jitter, blur = torch.rand(2, generator=of_batch).tolist()
        of_image = seeding.generator(self.seed, "photometric image", draw)
        shared = of_batch if self.together else of_image
        order, sigma = torch.randperm(4, generator=shared).tolist(), float(torch.rand((), generator=shared))
        factors = (1 + self.strength * (2 * torch.rand(4, generator=of_image) - 1)).tolist()
        if jitter < self.jitter:
            image = kornia_jitter.jitter(image, factors, order)
        return published_blur(image, 0.15 + sigma) if blur < self.blur else image


def unchanged(image: Tensor, draw: tuple[int, ...]) -> Tensor:
    """Return the images unchanged: the augmentation of a run without one."""
    return image


def published_blur(image: Tensor, sigma: float) -> Tensor:
    """Blur an image (..., H, W) with the published Gaussian kernel: about a tenth of each side, mirrored borders."""
    rows, columns = (min(_published_taps(side), _MOST_TAPS) for side in image.shape[-2:])
    return F.gaussian_blur(image, [columns, rows], [sigma, sigma])


def _published_taps(side: int) -> int:
    """Return the largest odd kernel size that is not above a tenth of the side, rounded up."""
    tenth = -(-side // 10)
    return tenth - 1 + tenth % 2
