"""Predictions of a video frame by frame, each with what was believed of the same surface before."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from blda_video.flow.flow_geometry import consistent, warp
from blda_video.propagation.averaging_rules import FLOOR

_LEAST = math.log(FLOOR)
CUT = 0.2
"""Where less of the frame than this is seen in the frame before, it is another scene."""
ALIKE = 0.08
"""Difference of colours in [0, 1] (root mean square) at which what was believed before counts for 1 / e."""


class FusedStream:
    """The recursive form of the trajectory rule: what frames said of a surface point, pulled along and averaged.

    The belief about a point is the geometric mean of the predictions of all frames since it came into sight, each
    weighted by its confidence times decay^age. Two sums carry it, of weighted logarithms and of weights; flow pulls
    both to the next frame, from those pixels that forward and backward flow agree on, and the less the more the colours
    differ: estimated flow often agrees with itself where it is wrong. Everything else starts anew: what was hidden,
    what flow does not know, and the whole frame after `reset`, a change of size or a cut.

    predict: image (1, 3, H, W) in [0, 1] -> logits (1, C, H, W). flow: (image, neighbour) -> flow (1, 2, H, W), see
    blda_video/flow/dis.py. decay: within 0, every frame alone, and 1, excluded: 1 / (1 - decay) frames count.
    """

    def __init__(
        self, predict: Callable[[Tensor], Tensor], flow: Callable[[Tensor, Tensor], Tensor], decay: float = 0.9
    ) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; it must be at least 0, which forgets at once, and below 1")
        self.predict, self.flow, self.decay = predict, flow, decay
        self._past: tuple[Tensor, Tensor] | None = None

    def reset(self) -> None:
        """Forget what was seen: the next frame is of another video or scene."""
        self._past = None

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """The next frame (1, 3, H, W) -> log-probabilities (1, C, H, W), of which `softmax` makes the belief."""
        logits = self.predict(image)
        if logits.shape[-2:] != image.shape[-2:]:
            raise ValueError(f"logits {tuple(logits.shape)} are not of the image's size {tuple(image.shape)}")
        alone = logits.log_softmax(1)
        weight = alone.amax(1, keepdim=True).exp()
        sums = torch.cat((alone.clamp(min=_LEAST) * weight, weight), 1)
        if self._past is None or self._past[0].shape != image.shape:
            self._past = image, sums
            return alone
        warped, seen = self._warped(image)
        # Chosen, not computed: where nothing is known of before, the frame's own prediction is kept bit for bit.
        sums = torch.where(seen, sums + warped, sums)
        self._past = image, sums
        return torch.where(seen, (sums[:, :-1] / sums[:, -1:]).log_softmax(1), alone)

    def _warped(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The past's sums (1, C + 1, H, W) in the present frame, aged, and where they mean anything (1, 1, H, W)."""
        before, sums = self._past
        forward, backward = self.flow(image, before), self.flow(before, image)
        seen = consistent(forward, backward)[:, None] & (self.decay > 0)
        warped = warp(torch.cat((sums, before), 1), forward)
        weight = self.decay * alike(image, warped[:, -image.shape[1] :])
        return weight * warped[:, : sums.shape[1]], seen & (seen.float().mean((1, 2, 3), keepdim=True) >= CUT)


def alike(image: Tensor, warped: Tensor) -> Tensor:
    """How much two images (B, 3, H, W) look alike around each pixel: 1 where they are the same, (B, 1, H, W)."""
    gap = (image - warped).square().mean(1, keepdim=True)
    return torch.exp(-functional.avg_pool2d(gap, 3, 1, 1, count_include_pad=False) / ALIKE**2)
