"""Painters of trees, lights and signs. Each returns RGBA (T, T, 4) in [0, 1], A = 0 in holes.

The outline depends on the variant and the generator only, never on the style.
"""

from __future__ import annotations

import numpy as np

from blda_video.street_world.simulator.paint import DARK, WHITE, Style, blank, box, disc, line, noise, shape, weather
from blda_video.street_world.simulator.surfaces import leaves

Rng = np.random.Generator


def _foliage(style: Style, rng: Rng, variant: int, blobs: list[tuple[float, float, float, float]]) -> np.ndarray:
    outline = blank()
    for x, y, rx, ry in blobs:
        disc(outline, x, y, (rx, ry), WHITE)
    gaps = noise(rng, 1.2) < -1.9
    rgba = leaves(style, rng, variant)
    rgba[..., 3] = (outline[..., 3] > 0) & ~gaps
    return weather(rgba, style, rng)


def crown(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """The crown of a tree, round or tall."""
    angles = rng.uniform(0, 2 * np.pi, 14)
    spread = (0.28, 0.26) if variant % 2 == 0 else (0.2, 0.3)
    blobs = [(0.5 + spread[0] * np.cos(a), 0.5 + spread[1] * np.sin(a), *rng.uniform(0.1, 0.19, 2)) for a in angles]
    return _foliage(style, rng, variant, [(0.5, 0.5, spread[0] + 0.05, spread[1] + 0.05), *blobs])


def bush(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A low bush that stands on the ground."""
    blobs = [(x, rng.uniform(0.4, 0.6), rng.uniform(0.12, 0.18), 0.35) for x in np.linspace(0.18, 0.82, 7)]
    return _foliage(style, rng, variant, [*blobs, (0.5, 0.8, 0.45, 0.35)])


def light(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A traffic light: red, green or amber is lit."""
    rgba = blank()
    box(rgba, 0.05, 0, 0.95, 1, style.color("housing"))
    lamps = ((0.95, 0.15, 0.1), (0.95, 0.7, 0.1), (0.15, 0.9, 0.35))
    for k, color in enumerate(lamps):
        lit = k == (0, 2, 1)[variant % 3]
        disc(rgba, 0.5, 0.2 + 0.3 * k, (0.3, 0.125), np.array(color) * (1.0 if lit else 0.25))
    return weather(rgba, style, rng, 0.4)


def sign(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A traffic sign: ban, order, warning, direction, priority."""
    rgba = blank()
    red, blue, white, yellow = (style.color("sign", k) for k in range(4))
    if variant == 0:
        disc(rgba, 0.5, 0.5, (0.49, 0.49), red)
        disc(rgba, 0.5, 0.5, (0.36, 0.36), white)
        box(rgba, 0.42, 0.3, 0.58, 0.7, DARK)
    elif variant == 1:
        disc(rgba, 0.5, 0.5, (0.49, 0.49), blue)
        line(rgba, [(0.3, 0.7), (0.7, 0.3), (0.45, 0.3)], 0.1, white)
    elif variant == 2:
        shape(rgba, [(0.5, 0.02), (0.99, 0.95), (0.01, 0.95)], red)
        shape(rgba, [(0.5, 0.25), (0.8, 0.83), (0.2, 0.83)], white)
    elif variant == 3:
        box(rgba, 0.0, 0.2, 1.0, 0.8, blue)
        line(rgba, [(0.15, 0.4), (0.7, 0.4)], 0.08, white)
        line(rgba, [(0.15, 0.6), (0.85, 0.6)], 0.08, white)
    else:
        shape(rgba, [(0.5, 0.01), (0.99, 0.5), (0.5, 0.99), (0.01, 0.5)], white)
        shape(rgba, [(0.5, 0.15), (0.85, 0.5), (0.5, 0.85), (0.15, 0.5)], yellow)
    return weather(rgba, style, rng, 0.4)
