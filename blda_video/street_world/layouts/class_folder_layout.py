"""Folders of classes such as VisDA-2017's, with stars and polygons as objects; the number of corners is the class."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from blda.data.label_map import CLASS_LISTS
from blda_video.street_world.layouts.encode import write_image
from blda_video.street_world.layouts.layout import Place, Usual, everything, made
from blda_video.street_world.simulator.world import World


@dataclass(frozen=True)
class ClassFolders:
    """`<split>/<class>/<class>_0.png` and `<split>/image_list.txt`; one image of every class a sequence.

    Pictures of the split train are PNG, others JPEG, as in VisDA-2017. The look `target` is noisy and slanted. Only the
    look and the size of the street world are used.
    """

    classes: Sequence[str] = CLASS_LISTS["visda12"]
    usual: ClassVar[Usual] = Usual("source", ("train", "validation"), 4, 1, (54, 72), most_frames=1)
    labelled = published = staticmethod(everything)

    def pieces(self, split: str) -> tuple[str, ...]:
        """Folders of this split, see `Layout`."""
        return (split,)

    def lists(self, split: str, sequences: int, frames: int) -> Mapping[str, str]:
        """List the images with the numbers of their classes, see `Layout`."""
        numbered = [(name, kind) for kind, name in enumerate(self.classes)]
        lines = (f"{self._image(split, name, i)} {kind}\n" for name, kind in numbered for i in range(sequences))
        return {f"{split}/image_list.txt": "".join(lines)}

    def name(self, place: Place) -> str:
        """Name of the first class's image, see `Layout`."""
        return self._image(place.split, self.classes[0], place.sequence).rsplit(".", 1)[0]

    def write(self, root: Path, split: str, sequence: int, world: World, labelled: tuple[int, ...]) -> None:
        """Write one image of every class, see `Layout`."""
        for kind, name in enumerate(self.classes):
            generator = np.random.default_rng((zlib.crc32(split.encode()), sequence, kind))
            image = draw(kind, world.look.name == "target", world.size, generator)
            write_image(made(root / split / self._image(split, name, sequence)), image)

    def _image(self, split: str, name: str, number: int) -> str:
        return f"{name}/{name}_{number}{'.png' if split == 'train' else '.jpg'}"


def draw(kind: int, real: bool, size: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """A picture (H, W, 3) uint8 of class `kind`: a star (odd) or a polygon (even) of 3 + kind // 2 points."""
    points, radius = 3 + kind // 2, min(size) * generator.uniform(0.3, 0.45)
    angles = np.arange(2 * points) * np.pi / points + generator.uniform(0, 2 * np.pi)
    inner = 0.4 if kind % 2 else np.cos(np.pi / points)
    radii = np.where(np.arange(2 * points) % 2, inner, 1) * radius
    centre = np.array(size[::-1]) / 2 + generator.uniform(-0.1, 0.1, 2) * size[::-1]
    corners = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * radii[:, None] + centre
    image = np.empty((*size, 3))
    image[:] = generator.uniform(20, 90, 3)
    cv2.fillPoly(image, [corners.round().astype(np.int32)], generator.uniform(140, 250, 3).tolist())
    if real:
        slope = np.linspace(-20, 20, size[0])[:, None, None]
        image = cv2.GaussianBlur(60 + 0.6 * image, (0, 0), 0.8) + slope + generator.normal(0, 6, image.shape)
    return image.clip(0, 255).astype(np.uint8)
