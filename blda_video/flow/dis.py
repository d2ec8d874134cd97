"""Flow on the CPU. An estimator is a callable (image, neighbour), each (B, 3, H, W) in [0, 1] -> flow (B, 2, H, W)."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

MINIMUM = 32
"""Shortest side DIS takes; below it OpenCV can crash the process instead of raising."""


class DIS:
    """Dense inverse search (Kroeger et al., ECCV 2016; OpenCV's implementation), on the CPU.

    preset: 'ultrafast' (6 ms a pair at 480 x 360, one core), 'fast' or 'medium' (25 ms). finest: how often the images
    are halved for the last and finest search; None leaves it to the preset, 1 for 'medium' and 2 for the others. 0 is
    more exact, above all on small images, and takes four times as long as 'medium'. The result depends on the two
    images alone, not on threads or earlier calls.
    """

    def __init__(self, preset: str = "medium", finest: int | None = None) -> None:
        presets = ("ultrafast", "fast", "medium")
        if preset not in presets:
            raise ValueError(f"unknown DIS preset {preset!r}; use one of {', '.join(presets)}")
        if finest is not None and (type(finest) is not int or not 0 <= finest <= 2):
            raise ValueError(f"finest is {finest!r} of DIS; use 0, 1 or 2, or leave it to the preset")
        self.preset, self.finest = preset, finest

    def __call__(self, image: Tensor, neighbour: Tensor) -> Tensor:
        """Flow (B, 2, H, W) float32 pixels, image -> neighbour, on the device of `image`.

        Raises ValueError when the shapes differ or a side is shorter than 32 pixels.
        """
        if image.shape != neighbour.shape:
            shapes = f"{tuple(image.shape)} and {tuple(neighbour.shape)}"
            raise ValueError(f"DIS needs two images of one shape, not {shapes}; resize the neighbour like the key")
        height, width = image.shape[-2:]
        if min(height, width) < MINIMUM:
            need = f"DIS needs {MINIMUM} pixels a side"
            raise ValueError(f"image of {height} x {width} (height x width) is too small: {need}; use a larger crop")
        pairs = zip(_gray(image), _gray(neighbour), strict=True)
        flow = np.stack([self._engine().calc(a, b, None) for a, b in pairs])
        return torch.from_numpy(flow).permute(0, 3, 1, 2).contiguous().to(image.device)

    def _engine(self) -> cv2.DISOpticalFlow:
        # A fresh one for each pair, in 0.1 ms: at some sizes (40 x 40) a used one gives another flow.
        engine = cv2.DISOpticalFlow_create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{self.preset.upper()}"))
        if self.finest is not None:
            engine.setFinestScale(self.finest)
        return engine


def _gray(image: Tensor) -> list[np.ndarray]:
    """B grey uint8 pictures (H, W) of `image` (B, 3, H, W) in [0, 1]."""
    pictures = (image.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY) for picture in pictures]
