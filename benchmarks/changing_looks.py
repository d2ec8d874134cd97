"""Looks that change during a drive: dusk, rain, another camera."""

from __future__ import annotations

import cv2
import numpy as np

LOOKS = ("clear", "dusk", "rain", "camera")


def amount(frame: int, frames: int) -> float:
    """Return the share of the change at a frame: 0 in the first third of the drive, 1 in the last."""
    return float(np.clip(3 * frame / max(frames - 1, 1) - 1, 0, 1))


def changed(image: np.ndarray, look: str, share: float, seed: int) -> np.ndarray:
    """Change an image (H, W, 3) uint8 RGB by a share of a look; seed: of the noise of this frame."""
    if share == 0 or look == "clear":
        return image
    rng = np.random.default_rng((seed, 5))
    level = {"dusk": dusk, "rain": rain, "camera": camera}[look](image.astype(np.float32) / 255, share, rng)
    return (255 * level.clip(0, 1) + 0.5).astype(np.uint8)


def dusk(level: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Less and bluer light, colours that fade, a sensor that is turned up."""
    grey = level.mean(-1, keepdims=True)
    level = level + share * 0.35 * (grey - level)
    level = level * (1 - share * np.array([0.5, 0.44, 0.32], np.float32))
    return level + share * 0.012 * rng.standard_normal(level.shape, np.float32)


def rain(level: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """A grey veil, drops on the lens, falling streaks."""
    height, width = level.shape[:2]
    blurred = cv2.GaussianBlur(level, (0, 0), 0.3 + 0.7 * share)
    level = level + share * (blurred - level)
    level = level + share * 0.3 * (np.float32([0.62, 0.64, 0.67]) - level)
    drops = (rng.random((height, width)) > 0.988).astype(np.float32)
    streak = np.zeros((9, 9), np.float32)
    cv2.line(streak, (3, 0), (5, 8), 1.0)
    streaks = cv2.filter2D(drops, -1, streak).clip(0, 1)[..., None]
    return level + share * 0.3 * streaks * (0.85 - level)


def camera(level: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Another tone curve, colder white, stronger colours, dark corners, sharpened edges."""
    height, width = level.shape[:2]
    level = level ** (1 + 0.4 * share)
    level = level * (1 + share * np.array([-0.08, 0.0, 0.1], np.float32))
    grey = level.mean(-1, keepdims=True)
    level = grey + (1 + 0.3 * share) * (level - grey)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    level = level * (1 - share * 0.25 * (x**2 + y**2))[..., None]
    return level + 0.5 * share * (level - cv2.GaussianBlur(level, (0, 0), 1.0))
