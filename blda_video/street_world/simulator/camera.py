"""The driver's camera: its optics and its path."""

from __future__ import annotations

import numpy as np

from blda_video.street_world.simulator.scene import Path


def pinhole(size: tuple[int, int]) -> np.ndarray:
    """(3, 3) intrinsics of an image (H, W): 53 degrees wide, the horizon a little above the middle.

    Pixel centres have whole coordinates.
    """
    height, width = size
    return np.array([[width, 0, (width - 1) / 2], [0, width, 0.46 * height - 0.5], [0, 0, 1]])


def drive(rng: np.random.Generator, frames: int) -> Path:
    """The camera's path: forward in the right lane with slowly changing speed, sway, yaw and pitch."""
    time = np.arange(frames)
    speed = rng.uniform(0.25, 0.5) * (1 + 0.25 * np.sin(time / rng.uniform(9, 20) + rng.uniform(0, 6)))
    z = np.concatenate([[0.0], np.cumsum(speed[:-1])])
    x = 1.3 + 0.25 * np.sin(time / rng.uniform(14, 25) + rng.uniform(0, 6))
    height = rng.uniform(1.45, 1.8)
    yaw = rng.normal(0, 0.02) + 0.035 * np.sin(time / rng.uniform(12, 24) + rng.uniform(0, 6))
    pitch = -0.02 + 0.004 * np.sin(time / rng.uniform(2, 5) + rng.uniform(0, 6))
    return Path(np.stack([x, np.full(frames, -height), z], axis=1), yaw, pitch)
