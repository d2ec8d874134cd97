"""Predict a video frame by frame, each prediction fused with earlier ones of the same surface."""

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
"""Part of a frame that is seen in the frame before; a frame with less begins another scene."""
ALIKE = 0.08
"""Difference of colours in [0, 1] (root mean square) at which what was believed before counts for 1 / e."""


class FusedStream:
    """The recursive form of the trajectory rule: predictions of a surface point, carried along the flow and averaged.

    The fused prediction of a point is the geometric mean of the predictions of all frames since it came into sight,
    each weighted by its confidence times decay^age. Two sums represent it: of weighted logarithms, and of weights. Flow
    warps both to the next frame, at pixels where forward and backward flow agree. They are scaled down where the
    colours differ, because estimated flow often agrees with itself where it is wrong. All other pixels start anew:
    hidden surfaces, unknown flow, and the whole frame after `reset`, a change of size or a cut.

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
        """Forget all frames: the next one belongs to another video or scene."""
        self._past = None

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Fuse the next frame (1, 3, H, W); returns log-probabilities (1, C, H, W), which `softmax` normalises."""
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
        """Warp the past sums (1, C + 1, H, W) to the present frame and age them; also return a mask (1, 1, H, W)."""
        before, sums = self._past
        forward, backward = self.flow(image, before), self.flow(before, image)
        seen = consistent(forward, backward)[:, None] & (self.decay > 0)
        warped = warp(torch.cat((sums, before), 1), forward)
        weight = self.decay * alike(image, warped[:, -image.shape[1] :])
        return weight * warped[:, : sums.shape[1]], seen & (seen.float().mean((1, 2, 3), keepdim=True) >= CUT)


def alike(image: Tensor, warped: Tensor) -> Tensor:
    """Similarity (B, 1, H, W) of two images (B, 3, H, W) around each pixel, 1 where they are equal."""
    gap = (image - warped).square().mean(1, keepdim=True)
    return torch.exp(-functional.avg_pool2d(gap, 3, 1, 1, count_include_pad=False) / ALIKE**2)
