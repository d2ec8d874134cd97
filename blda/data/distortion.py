"""Colour distortion of labelled training images, which the published source-only baselines are trained with."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch


class PhotoMetricDistortion:
    """Random change of brightness, contrast, saturation and hue, each with probability 1/2 (mmsegmentation 0.16).

    Contrast comes second or last with equal probability. Every step is clipped to 0 ... 255 and rounded down to whole
    numbers before the next.
    brightness: largest offset. contrast, saturation: largest deviation of the factor from 1. hue: largest offset of
    OpenCV's hue, whose full circle is 180.
    """

    def __init__(self, brightness: float = 32, contrast: float = 0.5, saturation: float = 0.5, hue: int = 18) -> None:
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue

    def __call__(self, image: np.ndarray, generator: torch.Generator) -> np.ndarray:
        """Distort an image (H, W, 3) uint8 RGB; all random numbers come from `generator`."""
        *coins, last = (torch.rand(5, generator=generator) < 0.5).tolist()
        brightness, contrast, saturation, hue = (2 * torch.rand(4, generator=generator) - 1).tolist()
        steps = [
            (coins[0], lambda pixels: _linear(pixels, add=brightness * self.brightness)),
            (coins[2], lambda pixels: _saturate(pixels, 1 + saturation * self.saturation)),
            # Whole numbers from -hue to hue - 1, as numpy's randint gives them.
            (coins[3], lambda pixels: _turn(pixels, math.floor(hue * self.hue))),
        ]
        steps.insert(3 if last else 1, (coins[1], lambda pixels: _linear(pixels, 1 + contrast * self.contrast)))
        for wanted, step in steps:
            image = step(image) if wanted else image
        return image


def _linear(pixels: np.ndarray, factor: float = 1.0, add: float = 0.0) -> np.ndarray:
    return np.clip(pixels.astype(np.float32) * factor + add, 0, 255).astype(np.uint8)


def _saturate(image: np.ndarray, factor: float) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 1] = _linear(hsv[..., 1], factor)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def _turn(image: np.ndarray, degrees: int) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0].astype(np.int64) + degrees) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
