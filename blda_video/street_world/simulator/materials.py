"""The materials of the street world: which there are, their classes, and the atlas that holds their textures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from blda.data.label_map import CITYSCAPES19
from blda_video.street_world.simulator import people, sprites, surfaces, vehicles
from blda_video.street_world.simulator.paint import TILE, Style

CLASSES = CITYSCAPES19
"""Class names in the order of the labels."""

LEVELS = 6
PAD = 4


@dataclass(frozen=True)
class Material:
    """`variants` textures of one class, painted by `paint(style, rng, variant) -> (T, T, 4) float32 RGBA`.

    A cutout has holes where A < 0.5; other materials tile without seam.
    """

    name: str
    label: str
    variants: int
    paint: Callable[[Style, np.random.Generator, int], np.ndarray]
    cutout: bool = False


MATERIALS = (
    Material("sky", "sky", 3, surfaces.sky),
    Material("road", "road", 2, surfaces.road),
    Material("crossing", "road", 1, surfaces.asphalt),
    Material("sidewalk", "sidewalk", 2, surfaces.paving),
    Material("curb", "sidewalk", 1, surfaces.curb),
    Material("grass", "terrain", 2, surfaces.grass),
    Material("facade", "building", 6, surfaces.facade),
    Material("gable", "building", 3, surfaces.gable),
    Material("wall", "wall", 3, surfaces.masonry),
    Material("fence", "fence", 3, surfaces.fence),
    Material("pole", "pole", 2, surfaces.pole),
    Material("trunk", "vegetation", 1, surfaces.trunk),
    Material("hedge", "vegetation", 2, surfaces.hedge),
    Material("crown", "vegetation", 4, sprites.crown, cutout=True),
    Material("bush", "vegetation", 2, sprites.bush, cutout=True),
    Material("light", "light", 3, sprites.light, cutout=True),
    Material("sign", "sign", 5, sprites.sign, cutout=True),
    Material("person", "person", 6, people.person, cutout=True),
    Material("walker", "person", 4, people.walker, cutout=True),
    Material("rider", "rider", 3, people.rider_behind, cutout=True),
    Material("rider_side", "rider", 3, people.rider_side, cutout=True),
    Material("bicycle", "bicycle", 2, people.bicycle_behind, cutout=True),
    Material("bicycle_side", "bicycle", 2, people.bicycle_side, cutout=True),
    Material("motorcycle", "motorcycle", 2, people.motorcycle_behind, cutout=True),
    Material("motorcycle_side", "motorcycle", 2, people.motorcycle_side, cutout=True),
    Material("car_side", "car", 2, vehicles.car_side, cutout=True),
    Material("car_rear", "car", 2, vehicles.car_rear, cutout=True),
    Material("car_front", "car", 2, vehicles.car_front, cutout=True),
    Material("car_glass", "car", 1, surfaces.glass),
    Material("car_paint", "car", 1, surfaces.bodywork),
    Material("truck_side", "truck", 2, vehicles.truck_side, cutout=True),
    Material("truck_rear", "truck", 2, vehicles.truck_rear, cutout=True),
    Material("truck_front", "truck", 1, vehicles.truck_front, cutout=True),
    Material("truck_paint", "truck", 1, surfaces.bodywork),
    Material("bus_side", "bus", 2, vehicles.bus_side, cutout=True),
    Material("bus_rear", "bus", 1, vehicles.bus_end, cutout=True),
    Material("bus_front", "bus", 1, vehicles.bus_end, cutout=True),
    Material("bus_paint", "bus", 1, surfaces.bodywork),
    Material("train_side", "train", 2, vehicles.train_side, cutout=True),
    Material("train_rear", "train", 1, vehicles.train_end, cutout=True),
    Material("train_front", "train", 1, vehicles.train_end, cutout=True),
    Material("train_paint", "train", 1, surfaces.bodywork),
)
FIRST = dict(zip([m.name for m in MATERIALS], np.cumsum([0, *(m.variants for m in MATERIALS)]).tolist(), strict=False))
"""Material name -> index of its first variant in the atlas."""
BY_NAME: Mapping[str, Material] = {material.name: material for material in MATERIALS}
_EACH = [material for material in MATERIALS for _ in range(material.variants)]
LABEL = np.array([CLASSES.index(material.label) for material in _EACH], np.uint8)
"""(V,) label of each variant."""
CUTOUT = np.array([material.cutout for material in _EACH])
"""(V,) whether each variant has holes."""


class Atlas:
    """All textures of one style in one image, each in `LEVELS` sizes, so that far surfaces do not flicker.

    solid: (V, TILE, TILE) bool, False in the holes; it depends on the variant, never on the style, so the
        geometry of a scene is the same in every style.
    """

    def __init__(self, style: Style):
        count = len(LABEL)
        widths = [(TILE >> level) + 2 * PAD for level in range(LEVELS)]
        self._column = np.cumsum([0, *widths[:-1]]).astype(np.float32) + PAD
        self._image = np.zeros((count * widths[0], sum(widths), 3), np.uint8)
        self.solid = np.ones((count, TILE, TILE), bool)
        row = 0
        for material in MATERIALS:
            for variant in range(material.variants):
                rng = np.random.default_rng((row, 77))
                rgba = material.paint(style, rng, variant)
                if material.cutout:
                    self.solid[row] = rgba[..., 3] >= 0.5
                self._store(row, rgba, material.cutout)
                row += 1

    def _store(self, row: int, rgba: np.ndarray, cutout: bool) -> None:
        color = rgba[..., :3].clip(0, 1)
        if cutout:  # holes take the mean colour, or edges would shine
            holes = ~self.solid[row]
            color = np.where(holes[..., None], color[~holes].mean(0), color)
        for level in range(LEVELS):
            side = TILE >> level
            tile = cv2.resize(color, (side, side), interpolation=cv2.INTER_AREA)
            padded = np.pad(tile, ((PAD, PAD), (PAD, PAD), (0, 0)), mode="edge" if cutout else "wrap")
            top, left = row * (TILE + 2 * PAD), int(self._column[level]) - PAD
            self._image[top : top + side + 2 * PAD, left : left + side + 2 * PAD] = (padded * 255 + 0.5).astype(
                np.uint8
            )

    def sample(self, variant: np.ndarray, x: np.ndarray, y: np.ndarray, detail: np.ndarray) -> np.ndarray:
        """Texture colours (H, W, 3) uint8 at `variant` (H, W), coordinates `x`, `y` in [0, 1).

        detail: (H, W) log2 of texels per pixel, which chooses the size.
        """
        level = detail.clip(0, LEVELS - 1).astype(np.int32)
        side = self._side[level]
        left = self._column[level] + x * side - 0.5
        top = variant.astype(np.float32) * (TILE + 2 * PAD) + y * side + (PAD - 0.5)
        return cv2.remap(self._image, left, top, cv2.INTER_LINEAR)

    @cached_property
    def _side(self) -> np.ndarray:
        return (TILE >> np.arange(LEVELS)).astype(np.float32)
