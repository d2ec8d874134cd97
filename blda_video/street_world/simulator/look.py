"""Photograph a view: the light, the air, the lens and the sensor of each domain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from blda_video.street_world.simulator.materials import Atlas
from blda_video.street_world.simulator.paint import TILE, Style
from blda_video.street_world.simulator.render import View
from blda_video.street_world.simulator.scene import Scene
from blda_video.street_world.simulator.street import Habits

MAP = 4
"""Shadow map cells per metre."""


@dataclass(frozen=True)
class Lens:
    """Air, optics and sensor. Every range is drawn once per sequence.

    haze: visibility range in metres (63 % lost) and its colour `air`. exposure: range of the brightness factor.
    cast: colour factor. gamma: exponent range. vignette: loss in the corners. blur: deviation in pixels of a
    256-line image. noise: deviation of the sensor's noise in grey levels. jpeg: quality, or None.
    saturation: 1 keeps the colours.
    """

    haze: tuple[float, float]
    air: tuple[float, float, float]
    exposure: tuple[float, float]
    cast: tuple[float, float, float]
    gamma: tuple[float, float]
    saturation: float
    vignette: float
    blur: tuple[float, float]
    noise: float
    jpeg: int | None


@dataclass(frozen=True)
class Light:
    """Light of a domain.

    sun: range of the sun's share of the light. slant: sideways shift of shadows per metre of height.
    """

    sun: tuple[float, float]
    slant: tuple[float, float]
    shadow: float


@dataclass(frozen=True)
class Look:
    """Look of a domain: habits of its streets, paint style, light and lens."""

    name: str
    habits: Habits
    style: Style
    light: Light
    lens: Lens

    @cached_property
    def atlas(self) -> Atlas:
        """The textures, painted once per process."""
        return Atlas(self.style)


class Photographer:
    """Turns the views of one scene into images; its random numbers depend on (seed, frame) alone."""

    def __init__(self, look: Look, scene: Scene, seed: int, size: tuple[int, int]):
        rng = np.random.default_rng((seed, 23))
        self._look, self._scene, self._seed, self._size = look, scene, seed, size
        light, lens = look.light, look.lens
        sun = rng.uniform(*light.sun)
        self._slant = rng.uniform(*light.slant) * rng.choice([-1, 1])
        direction = np.array([-np.sign(self._slant) * 0.7, -0.55, -0.45])
        lambert = np.maximum(scene.normals() @ direction, 0)
        self._shade = (scene.tint * (1 - sun + sun * 1.6 * lambert)[:, None]).astype(np.float32)
        self._shade[0] = 1
        self._texels = self._texel_density(scene)
        self._haze = rng.uniform(*lens.haze)
        self._blur = rng.uniform(*lens.blur) * size[0] / 256
        self._curve = _tone_curve(lens, rng)
        self._noise = _noise_field(rng, size, lens.noise)
        self._vignette = _vignette(size, lens.vignette)

    def _texel_density(self, scene: Scene) -> np.ndarray:
        """(N,) log2 of texels per metre on each quad."""
        area = np.linalg.norm(np.cross(scene.right, scene.down), axis=1)
        return (0.5 * np.log2(np.abs(scene.repeat).prod(1) / area) + np.log2(TILE)).astype(np.float32)

    def photograph(self, view: View, t: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB of the view at frame t."""
        scene, quad = self._scene, view.quad
        repeat = scene.repeat[quad]
        x, y = view.a * repeat[..., 0], view.b * repeat[..., 1]
        sky = quad == 0
        y[sky] = y[sky].clip(0, 0.999)
        metre = np.log2(view.nearness + 1e-4) * -1.3 - np.log2(self._size[1])
        detail = np.rint(self._texels[quad] + metre)
        detail[sky] = 2
        color = self._look.atlas.sample(scene.variant[quad], x - np.floor(x), y - np.floor(y), detail)
        color = color * self._shade[quad]
        color *= self._shadows(view, t)[..., None]
        return self._develop(color, view, sky, t)

    def _shadows(self, view: View, t: int) -> np.ndarray:
        """(H, W) light that reaches the ground, 1 elsewhere."""
        scene, light = self._scene, self._look.light
        camera = scene.camera.position[t]
        origin = np.array([-24.0, camera[2] - 2])
        plan = np.zeros((80 * MAP, 48 * MAP), np.float32)
        for body, x, z, wide, long, height in scene.shades:
            path = scene.bodies[int(body)]
            turn = np.cos(path.yaw[t])
            middle = np.array([path.position[t, 0] + turn * x, path.position[t, 2] + turn * z])
            if not -30 < middle[1] - camera[2] < 110:
                continue
            base = np.array([[-wide, -long], [wide, -long], [wide, long], [-wide, long]]) + middle
            tip = base + np.array([self._slant, 0.25 * abs(self._slant)]) * height
            hull = cv2.convexHull(((np.concatenate([base, tip]) - origin) * MAP * 16).astype(np.int32))
            cv2.fillConvexPoly(plan, hull, 1.0, cv2.LINE_8, 4)
        plan = cv2.GaussianBlur(plan, (0, 0), 1.2)
        ground = scene.ground[view.quad]
        quad = np.where(ground, view.quad, 0)
        x = scene.corner[quad, 0] + view.a * scene.right[quad, 0] - origin[0]
        z = scene.corner[quad, 2] + view.b * scene.down[quad, 2] - origin[1]
        seen = cv2.remap(plan, (x * MAP).astype(np.float32), (z * MAP).astype(np.float32), cv2.INTER_LINEAR)
        return np.where(ground, 1 - light.shadow * seen, 1).astype(np.float32)

    def _develop(self, color: np.ndarray, view: View, sky: np.ndarray, t: int) -> np.ndarray:
        lens = self._look.lens
        if lens.haze[0] < 1e4:
            clear = np.exp(-1 / (self._haze * np.maximum(view.nearness, 1e-3)))
            clear[sky] = 1
            air = 255 * np.array(lens.air, np.float32)
            color = air + (color - air) * clear[..., None]
        if self._vignette is not None:
            color *= self._vignette
        image = color.clip(0, 255).astype(np.uint8)
        if lens.saturation != 1:
            gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
            image = cv2.addWeighted(image, lens.saturation, gray, 1 - lens.saturation, 0)
        if self._blur > 0.1:
            image = cv2.GaussianBlur(image, (0, 0), self._blur)
        image = cv2.LUT(image, self._curve)
        if self._noise is not None:
            image = self._expose_noise(image, t)
        if lens.jpeg is not None:
            bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, lens.jpeg])
            image = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return image

    def _expose_noise(self, image: np.ndarray, t: int) -> np.ndarray:
        """A window of the noise field that is drawn anew for each frame."""
        height, width = self._size
        top, left = np.random.default_rng((self._seed, 31, t)).integers(0, (height, width))
        grain = self._noise[top : top + height, left : left + width]
        return cv2.add(image, grain, dtype=cv2.CV_8U)


def _tone_curve(lens: Lens, rng: np.random.Generator) -> np.ndarray:
    """(256, 1, 3) uint8 lookup: exposure, colour cast and gamma."""
    exposure, gamma = rng.uniform(*lens.exposure), rng.uniform(*lens.gamma)
    level = np.linspace(0, 1, 256)[:, None] * exposure * np.array(lens.cast)
    return (255 * level.clip(0, 1) ** gamma + 0.5).astype(np.uint8)[:, None]


def _noise_field(rng: np.random.Generator, size: tuple[int, int], deviation: float) -> np.ndarray | None:
    if not deviation:
        return None
    field = rng.standard_normal((2 * size[0], 2 * size[1], 3), np.float32)
    field = 0.8 * field + 0.6 * cv2.GaussianBlur(field, (0, 0), 1.0) * 3
    return (deviation * field).astype(np.int16)


def _vignette(size: tuple[int, int], loss: float) -> np.ndarray | None:
    if not loss:
        return None
    y, x = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
    return (1 - loss * (x**2 + y**2) / 2).astype(np.float32)[..., None]
