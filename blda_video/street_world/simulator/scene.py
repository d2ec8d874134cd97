"""A scene: textured parallelograms on rigid bodies that move, and a camera that drives through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from blda_video.street_world.simulator import materials

Vector = Sequence[float]


@dataclass(frozen=True)
class Path:
    """Position and heading of a body at each of T frames.

    position: (T, 3) metres: x right, y down, z along the street; the road lies at y = 0.
    yaw: (T,) radians, positive turns the nose from +z towards +x.
    pitch: (T,) radians, positive turns the nose up.
    """

    position: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray

    def rotation(self, t: int) -> np.ndarray:
        """(3, 3) own axes -> world axes at frame t."""
        cy, sy, cp, sp = np.cos(self.yaw[t]), np.sin(self.yaw[t]), np.cos(self.pitch[t]), np.sin(self.pitch[t])
        turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        return turn @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])


@dataclass(frozen=True)
class Scene:
    """N quads on B bodies over T frames; body 0 is the world, quad 0 the sky.

    corner, right, down: (N, 3) a quad's upper left corner and its edges, on its body. A surface point has
        coordinates (a, b) in [0, 1]: corner + a * right + b * down.
    body: (N,) index. variant: (N,) index into the atlas. repeat: (N, 2) texture tiles along a and b.
    tint: (N, 3) colour factor. ground: (N,) bool, lies flat and takes shadows.
    bodies: B paths. camera: the driver's path.
    shades: footprints that cast shadows: (body, x, z, half width, half length, height), on the body.
    """

    corner: np.ndarray
    right: np.ndarray
    down: np.ndarray
    body: np.ndarray
    variant: np.ndarray
    repeat: np.ndarray
    tint: np.ndarray
    ground: np.ndarray
    bodies: tuple[Path, ...]
    camera: Path
    shades: np.ndarray

    def matrices(self, t: int, intrinsics: np.ndarray) -> np.ndarray:
        """(N, 3, 3) M: M @ (a, b, 1) = depth * (pixel x, pixel y, 1) at frame t, with `intrinsics` (3, 3).

        The sky is at infinity: it turns with the camera and never comes nearer.
        """
        turns = np.stack([path.rotation(t) for path in self.bodies])[self.body]
        shift = np.stack([path.position[t] for path in self.bodies])[self.body] - self.camera.position[t]
        shift[0] = 0
        local = np.stack([self.right, self.down, self.corner], axis=-1)
        world = turns @ local
        world[:, :, 2] += shift
        return (intrinsics @ self.camera.rotation(t).T) @ world

    def normals(self) -> np.ndarray:
        """(N, 3) unit normals towards the viewer, on the bodies as they stand at frame 0."""
        turns = np.stack([path.rotation(0) for path in self.bodies])[self.body]
        cross = -np.cross(self.right, self.down)
        cross /= np.linalg.norm(cross, axis=1, keepdims=True)
        return np.einsum("nij,nj->ni", turns, cross)


@dataclass
class Builder:
    """Collects quads and bodies and hands back a Scene; `rng` draws texture variants."""

    rng: np.random.Generator
    frames: int
    bodies: list[Path] = field(default_factory=list)
    shades: list[tuple[float, ...]] = field(default_factory=list)
    _quads: list[tuple] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.place((0, 0, 0))
        self.quad(0, "sky", (-2, -0.6, 1), (4, 0, 0), (0, 0.7, 0))

    def place(self, start: Vector, velocity: Vector = (0, 0, 0), yaw: float = 0.0) -> int:
        """A body that starts at `start` and moves by `velocity` metres a frame; returns its index."""
        time = np.arange(self.frames)[:, None]
        position = np.asarray(start, float) + time * np.asarray(velocity, float)
        self.bodies.append(Path(position, np.full(self.frames, yaw), np.zeros(self.frames)))
        return len(self.bodies) - 1

    def variant(self, material: str) -> int:
        """A random variant of a material."""
        return int(self.rng.integers(materials.BY_NAME[material].variants))

    def quad(
        self,
        body: int,
        material: str,
        corner: Vector,
        right: Vector,
        down: Vector,
        repeat: tuple[float, float] = (1, 1),
        tint: Vector = (1, 1, 1),
        variant: int | None = None,
        ground: bool = False,
    ) -> None:
        """Add a quad, seen from the side from which `right` is right of its corner and `down` is below."""
        index = materials.FIRST[material] + (self.variant(material) if variant is None else variant)
        self._quads.append((corner, right, down, body, index, repeat, tint, ground))

    def upright(self, body: int, material: str, x: float, z: float, width: float, height: float, **keys) -> None:
        """A quad that faces the driver; x and z of its foot's middle; `base` metres above the road."""
        base = keys.pop("base", 0.0)
        self.quad(body, material, (x - width / 2, -base - height, z), (width, 0, 0), (0, height, 0), **keys)

    def along(self, body: int, material: str, x: float, z: tuple[float, float], height: float, **keys) -> None:
        """A wall along the street from z[0] to z[1] that faces the middle of the road."""
        length = z[1] - z[0]
        start, right = (z[0], length) if x < 0 else (z[1], -length)
        self.quad(body, material, (x, -height, start), (0, 0, right), (0, height, 0), **keys)

    def floor(self, material: str, x: tuple[float, float], z: tuple[float, float], height: float, **keys) -> None:
        """A piece of ground at `height` metres."""
        size = (x[1] - x[0], 0, 0), (0, 0, z[0] - z[1])
        self.quad(0, material, (x[0], -height, z[1]), *size, ground=True, **keys)

    def shade(self, body: int, x: float, z: float, size: tuple[float, float], height: float) -> None:
        """A footprint of half width and half length `size` that casts a shadow."""
        self.shades.append((body, x, z, *size, height))

    def scene(self, camera: Path) -> Scene:
        """Make the scene of all collected quads and bodies."""
        corner, right, down, body, variant, repeat, tint, ground = zip(*self._quads, strict=True)
        return Scene(
            *(np.asarray(value, float) for value in (corner, right, down)),
            np.asarray(body),
            np.asarray(variant, np.int32),
            np.asarray(repeat, np.float32),
            np.asarray(tint, np.float32),
            np.asarray(ground),
            tuple(self.bodies),
            camera,
            np.asarray(self.shades, float).reshape(-1, 6),
        )
