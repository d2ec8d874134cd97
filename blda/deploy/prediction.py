"""Prediction of one image: its label map, probabilities and pictures, at the image's own size."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from blda import atomic
from blda.engine.label_pictures import blended, fixed_legend, indexed


@dataclass(frozen=True, eq=False)
class Prediction:
    """Prediction of an image.

    image: (H, W, 3) uint8, upright. labels: (H, W) uint8, indices into `classes`. scores: (1, C, h, w) at the size that
    the network saw. classes: the C names. colors: (C, 3) uint8.
    """

    image: np.ndarray
    labels: np.ndarray
    scores: Tensor
    classes: tuple[str, ...]
    colors: np.ndarray

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Probabilities (C, H, W) float32 of the classes at every pixel, computed when they are first asked for."""
        return at_size(self.scores, self.labels.shape).softmax(1)[0].cpu().numpy()

    def overlay(self, strength: float = 0.5, legend: bool = True) -> Image.Image:
        """Draw the classes' colours over the image, with a legend of all classes below it.

        strength: share of the colours, 0 to 1.
        """
        picture = blended(self.image, self.labels, self.colors, strength)
        return Image.fromarray(np.concatenate((picture, self._legend())) if legend else picture)

    def _legend(self) -> np.ndarray:
        return fixed_legend(self.classes, self.colors, self.labels, self.labels.shape[1])

    def on_cpu(self) -> Prediction:
        """Return the same prediction with its scores on the CPU."""
        return replace(self, scores=self.scores.cpu())

    def picture(self) -> Image.Image:
        """Make the label map an indexed picture: class indices, shown in the classes' colours."""
        return indexed(self.labels, self.colors)

    def save(self, path: str | os.PathLike) -> None:
        """Write the label map to a .png, indexed in the classes' colours, or labels and probabilities to a .npz.

        The file is written whole or not at all. Raises ValueError for another suffix.
        """
        path = Path(path)
        writers = {
            ".png": lambda file: self.picture().save(file, format="png"),
            ".npz": lambda file: np.savez_compressed(file, labels=self.labels, probabilities=self.probabilities),
        }
        if path.suffix.lower() not in writers:
            raise ValueError(f"cannot save a prediction as {path}; give a name that ends in {' or '.join(writers)}")
        atomic.write(path, writers[path.suffix.lower()])


def at_size(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize scores (B, C, h, w) to the (height, width) of their image, bilinearly."""
    if scores.shape[-2:] == tuple(size):
        return scores
    return F.interpolate(scores, size, mode="bilinear", align_corners=False)
