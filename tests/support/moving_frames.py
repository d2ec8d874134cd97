"""Folders of frames on which a camera moves sideways."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np


def texture(height: int, width: int = 160) -> np.ndarray:
    """A smooth random picture (height, width, 3) uint8, the same for every call."""
    coarse = np.random.default_rng(0).integers(0, 256, (8, 20, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def write(root: Path, size: tuple[int, int], numbers: Iterable[int], first: int = 0, darker: float = 0) -> Path:
    """Write two equal folders `a` and `b` of frames NUMBER.png, each 2 pixels on; returns `root`.

    size: (height, width). first: the number where the camera starts. darker: share of the light that each frame loses.
    """
    wide = texture(size[0])
    for folder in "ab":
        (root / folder).mkdir()
        for number in numbers:
            step = number - first
            frame = (wide[:, 2 * step : 2 * step + size[1]] * (1 - darker * step)).astype(np.uint8)
            cv2.imwrite(str(root / folder / f"{number}.png"), frame)
    return root
