"""Paints and brushes: the colours of a style, noise, and shapes on a texture tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

TILE = 256
"""Side of a texture in texels."""

Color = tuple[float, float, float]
WHITE: Color = (0.95, 0.95, 0.95)
DARK: Color = (0.08, 0.08, 0.09)


@dataclass(frozen=True)
class Style:
    """Paint style of a look's textures.

    palette: colour family -> colours in [0, 1]; variant k takes colour k (cyclic).
    grain: contrast of the fine noise on every surface.
    stain: contrast of the broad dirt on every surface.
    joint: contrast of edges that are drawn (joints, frames, markings).
    """

    palette: Mapping[str, Sequence[Color]]
    grain: float
    stain: float
    joint: float

    def color(self, family: str, variant: int = 0) -> np.ndarray:
        """Colour (3,) of a family."""
        colors = self.palette[family]
        return np.array(colors[variant % len(colors)], np.float32)


def noise(rng: np.random.Generator, power: float) -> np.ndarray:
    """Seamless noise (T, T), mean 0, deviation 1, amplitude falling with frequency ** -power."""
    spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE)))
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None])
    frequency[0, 0] = np.inf
    values = np.fft.irfft2(spectrum / frequency**power, s=(TILE, TILE))
    return (values / values.std()).astype(np.float32)


def opaque(color: np.ndarray) -> np.ndarray:
    """RGBA (T, T, 4) without holes, from a colour (3,) or a picture (T, T, 3)."""
    rgba = np.ones((TILE, TILE, 4), np.float32)
    rgba[..., :3] = color
    return rgba


def blank() -> np.ndarray:
    """RGBA (T, T, 4) that is all hole."""
    return np.zeros((TILE, TILE, 4), np.float32)


def weather(rgba: np.ndarray, style: Style, rng: np.random.Generator, amount: float = 1.0) -> np.ndarray:
    """The texture with the style's grain and stain; the holes stay."""
    shade = 1 + amount * (style.grain * noise(rng, 0.6) + style.stain * noise(rng, 1.5))
    rgba[..., :3] *= shade.clip(0.3, 1.7)[..., None]
    return rgba


def _ink(color: Sequence[float]) -> tuple[float, float, float, float]:
    return (float(color[0]), float(color[1]), float(color[2]), 1.0)


def _points(points: Sequence[tuple[float, float]]) -> np.ndarray:
    return (np.array(points) * TILE).round().astype(np.int32)


def box(rgba: np.ndarray, left: float, top: float, right: float, bottom: float, color: Sequence[float]) -> None:
    """Fill a rectangle; coordinates in tile sides, y down."""
    (x0, y0), (x1, y1) = _points([(left, top), (right, bottom)])
    cv2.rectangle(rgba, (int(x0), int(y0)), (int(x1) - 1, int(y1) - 1), _ink(color), -1)


def disc(rgba: np.ndarray, x: float, y: float, radius: tuple[float, float], color: Sequence[float]) -> None:
    """Fill an ellipse with half axes `radius`."""
    (cx, cy), (rx, ry) = _points([(x, y), radius])
    cv2.ellipse(rgba, (int(cx), int(cy)), (int(rx), int(ry)), 0, 0, 360, _ink(color), -1)


def line(rgba: np.ndarray, points: Sequence[tuple[float, float]], width: float, color: Sequence[float]) -> None:
    """Draw a polyline of `width`."""
    cv2.polylines(rgba, [_points(points)], False, _ink(color), max(1, round(width * TILE)))


def shape(rgba: np.ndarray, points: Sequence[tuple[float, float]], color: Sequence[float]) -> None:
    """Fill a polygon."""
    cv2.fillPoly(rgba, [_points(points)], _ink(color))
