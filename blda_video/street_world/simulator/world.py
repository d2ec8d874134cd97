"""One drive through the street world: images, labels and exact flow at any frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from blda_video.street_world.simulator import density as densities
from blda_video.street_world.simulator import render
from blda_video.street_world.simulator.camera import pinhole
from blda_video.street_world.simulator.look import Photographer
from blda_video.street_world.simulator.materials import CUTOUT, LABEL
from blda_video.street_world.simulator.shift import shifted
from blda_video.street_world.simulator.street import Street


@dataclass(frozen=True)
class WorldFrame:
    """image: (H, W, 3) uint8 RGB. label: (H, W) uint8 in 0..18. depth: (H, W) float32 metres, inf in the sky.
    surface: (H, W) int32, the flat surface that each pixel shows; it keeps its number over the whole drive.
    """

    image: np.ndarray
    label: np.ndarray
    depth: np.ndarray
    surface: np.ndarray


class World:
    """A drive of `frames` frames through a street that `seed` decides, at `size` (H, W).

    look: "source" or "target"; both share the rules of the geometry, not the frequencies of things. density: factor
    of these frequencies, or class -> factor. shift: how far the look is from the source's, see `shifted`.
    Raises ValueError when an argument or a frame number is out of range.
    """

    def __init__(
        self,
        look: str,
        seed: int,
        size: tuple[int, int],
        frames: int,
        density: densities.Density = 1.0,
        shift: float = 1.0,
    ):
        if frames < 1 or min(size) < 16:
            raise ValueError(f"a world needs frames >= 1 and sides >= 16, got frames {frames}, size {tuple(size)}")
        self.look, self.size, self.frames = shifted(look, shift), (int(size[0]), int(size[1])), frames
        self.scene = Street(seed, frames, densities.of_habits(self.look.habits, density)).scene()
        self._label = LABEL[self.scene.variant]
        cutout = CUTOUT[self.scene.variant]
        mirror = np.where(self.scene.repeat[:, 0] < 0, -1, 1)
        self._pattern = np.stack([np.where(cutout, self.scene.variant, -1), mirror], axis=1)
        self._photographer = Photographer(self.look, self.scene, seed, self.size)
        self._view = lru_cache(maxsize=4)(self._render)

    def frame(self, t: int) -> WorldFrame:
        """Frame t in 0 .. frames - 1."""
        view = self._view(self._checked(t))
        with np.errstate(divide="ignore"):
            depth = 1 / view.nearness
        return WorldFrame(self._photographer.photograph(view, t), self._label[view.quad], depth, view.quad.copy())

    def flow(self, t: int, offset: int) -> tuple[np.ndarray, np.ndarray]:
        """Exact flow (2, H, W) float32 from frame t to t + offset, and (H, W) bool: that point is seen there."""
        return render.flow(self._view(self._checked(t)), self._view(self._checked(t + offset)))

    def _render(self, t: int) -> render.View:
        matrices = self.scene.matrices(t, pinhole(self.size))
        return render.look(matrices, self._pattern, self.look.atlas.solid, self.size)

    def _checked(self, t: int) -> int:
        if not 0 <= t < self.frames:
            raise ValueError(f"no frame {t} in a world of {self.frames} frames; choose 0 .. {self.frames - 1}")
        return t
