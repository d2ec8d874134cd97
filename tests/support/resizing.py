"""Whole images and labels resized the plain way, which a crop of the resized must equal."""

import cv2
import numpy as np

from blda.data.transforms import Size, interpolation


def resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    """(H, W, 3) uint8 -> (*size, 3)."""
    if image.shape[:2] == tuple(size):
        return image
    return cv2.resize(image, size[::-1], interpolation=interpolation(image.shape[:2], size))


def resize_label(label: np.ndarray, size: Size) -> np.ndarray:
    """(H, W) uint8 -> size."""
    return label if label.shape == tuple(size) else cv2.resize(label, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
