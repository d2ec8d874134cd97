"""Painters of the faces of vehicles. Each returns RGBA (T, T, 4) in [0, 1], A = 0 in holes.

Bodywork is white, since the scene tints it. The outlines fit `things`.
"""

from __future__ import annotations

import numpy as np

from blda_video.street_world.simulator.paint import DARK, WHITE, Style, blank, box, disc, line, shape, weather

Rng = np.random.Generator


def _wheels(rgba: np.ndarray, centres: tuple[float, ...], radius: tuple[float, float]) -> None:
    for x in centres:
        disc(rgba, x, 1 - radius[1], radius, DARK)
        disc(rgba, x, 1 - radius[1], (radius[0] * 0.55, radius[1] * 0.55), (0.6, 0.6, 0.62))


def car_side(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A car's side, its front to the right; the outline follows `things.CAR`."""
    rgba = blank()
    rear = [(0, 0.4), (0.14, 0)] if variant else [(0, 0.4), (0.13, 0.36), (0.23, 0)]
    shape(rgba, [*rear, (0.6, 0), (0.74, 0.4), (1, 0.5), (1, 0.83), (0, 0.83)], WHITE)
    pane = style.color("glass")
    left = 0.1 if variant else 0.19
    shape(rgba, [(left, 0.38), (left + 0.08, 0.07), (0.4, 0.07), (0.4, 0.4)], pane)
    shape(rgba, [(0.43, 0.4), (0.43, 0.07), (0.58, 0.07), (0.69, 0.42)], pane)
    line(rgba, [(0.415, 0.42), (0.415, 0.8)], 0.008, (0.5, 0.5, 0.5))
    box(rgba, 0, 0.76, 1, 0.83, (0.2, 0.2, 0.2))
    _wheels(rgba, (0.2, 0.8), (0.085, 0.23))
    return weather(rgba, style, rng, 0.4)


def car_rear(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """The lower rear: lamps, plate, bumper, tyres."""
    rgba = blank()
    box(rgba, 0, 0, 1, 0.75, WHITE)
    for left in (0.02, 0.8):
        box(rgba, left, 0.08, left + 0.18, 0.36, style.color("tail"))
    box(rgba, 0.36, 0.3, 0.64, 0.48, (0.9, 0.9, 0.8))
    box(rgba, 0, 0.6, 1, 0.8, (0.25, 0.25, 0.26))
    for left in (0.04, 0.78):
        box(rgba, left, 0.75, left + 0.18, 1, DARK)
    return weather(rgba, style, rng, 0.4)


def car_front(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """The lower front: headlamps, grille, tyres."""
    rgba = blank()
    box(rgba, 0, 0, 1, 0.75, WHITE)
    box(rgba, 0.28, 0.2, 0.72, 0.5, (0.12, 0.12, 0.13))
    for left in (0.02, 0.78):
        box(rgba, left, 0.12, left + 0.2, 0.36, (1.0, 1.0, 0.9))
    box(rgba, 0.3, 0.55, 0.7, 0.66, (0.9, 0.9, 0.85))
    box(rgba, 0, 0.68, 1, 0.8, (0.25, 0.25, 0.26))
    for left in (0.04, 0.78):
        box(rgba, left, 0.75, left + 0.18, 1, DARK)
    return weather(rgba, style, rng, 0.4)


def truck_side(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A cargo box behind a cab."""
    rgba = blank()
    box(rgba, 0, 0, 0.76, 0.72, WHITE if variant == 0 else style.color("cargo"))
    for k in range(7):
        box(rgba, 0.1 * k + 0.04, 0.02, 0.1 * k + 0.05, 0.7, (0.7, 0.7, 0.7))
    box(rgba, 0, 0.72, 0.8, 0.82, (0.15, 0.15, 0.15))
    shape(rgba, [(0.75, 0), (1, 0), (1, 0.85), (0.75, 0.85)], WHITE)
    shape(rgba, [(0.82, 0.14), (0.97, 0.14), (0.97, 0.42), (0.82, 0.42)], style.color("glass"))
    _wheels(rgba, (0.14, 0.28, 0.87), (0.06, 0.14))
    return weather(rgba, style, rng, 0.5)


def truck_rear(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """Two doors with bars over an underrun guard."""
    rgba = blank()
    box(rgba, 0, 0, 1, 0.76, WHITE if variant == 0 else style.color("cargo"))
    for x in (0.02, 0.49, 0.96):
        box(rgba, x, 0, x + 0.03, 0.76, (0.45, 0.45, 0.45))
    for x in (0.25, 0.72):
        line(rgba, [(x, 0.02), (x, 0.74)], 0.015, (0.35, 0.35, 0.36))
    box(rgba, 0, 0.76, 1, 0.86, (0.15, 0.15, 0.16))
    for left in (0.02, 0.84):
        box(rgba, left, 0.77, left + 0.14, 0.84, style.color("tail"))
    for left in (0.06, 0.72):
        box(rgba, left, 0.86, left + 0.22, 1, DARK)
    return weather(rgba, style, rng, 0.5)


def truck_front(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A cab: wide windscreen over a grille."""
    rgba = blank()
    box(rgba, 0, 0, 1, 0.88, WHITE)
    box(rgba, 0.06, 0.12, 0.94, 0.42, style.color("glass"))
    box(rgba, 0.2, 0.5, 0.8, 0.72, (0.15, 0.15, 0.16))
    for left in (0.04, 0.8):
        box(rgba, left, 0.72, left + 0.16, 0.82, (1, 1, 0.9))
        box(rgba, left, 0.88, left + 0.16, 1, DARK)
    return weather(rgba, style, rng, 0.5)


def bus_side(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A band of windows, doors, a stripe."""
    rgba = blank()
    box(rgba, 0, 0, 1, 0.9, WHITE)
    for k in range(8):
        box(rgba, 0.02 + 0.122 * k, 0.14, 0.125 + 0.122 * k, 0.5, style.color("glass"))
    for left in (0.4, 0.88):
        box(rgba, left, 0.12, left + 0.08, 0.86, style.color("glass") * 0.7)
    box(rgba, 0, 0.58, 1, 0.64, style.color("stripe", variant))
    _wheels(rgba, (0.2, 0.74), (0.05, 0.15))
    return weather(rgba, style, rng, 0.4)


def bus_end(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A bus from before or behind: one great window, a number, lamps."""
    rgba = blank()
    box(rgba, 0, 0, 1, 0.9, WHITE)
    box(rgba, 0.08, 0.17, 0.92, 0.55, style.color("glass"))
    box(rgba, 0.2, 0.04, 0.8, 0.13, DARK)
    box(rgba, 0.34, 0.06, 0.66, 0.11, (1, 0.75, 0.1))
    for left in (0.04, 0.82):
        box(rgba, left, 0.66, left + 0.14, 0.8, style.color("tail"))
        box(rgba, left, 0.9, left + 0.14, 1, DARK)
    return weather(rgba, style, rng, 0.4)


def train_side(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A tramcar's side: windows with round corners, doors in another colour, a dark skirt."""
    rgba = blank()
    box(rgba, 0, 0.05, 1, 0.95, WHITE)
    box(rgba, 0, 0, 1, 0.07, (0.35, 0.36, 0.38))
    for k in range(6):
        left = 0.03 + k / 6
        if k % 3 == 1:
            box(rgba, left, 0.12, left + 0.1, 0.86, style.color("stripe", variant))
            box(rgba, left + 0.01, 0.18, left + 0.09, 0.55, style.color("glass"))
        else:
            box(rgba, left, 0.2, left + 0.12, 0.52, style.color("glass"))
    box(rgba, 0, 0.86, 1, 1, (0.2, 0.2, 0.21))
    return weather(rgba, style, rng, 0.4)


def train_end(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A tramcar's head: a sloping screen, a bumper, a coupler."""
    rgba = blank()
    shape(rgba, [(0.14, 0), (0.86, 0), (1, 0.3), (1, 0.95), (0, 0.95), (0, 0.3)], WHITE)
    shape(rgba, [(0.2, 0.1), (0.8, 0.1), (0.9, 0.48), (0.1, 0.48)], style.color("glass"))
    box(rgba, 0, 0.56, 1, 0.66, style.color("stripe", variant))
    for left in (0.1, 0.74):
        disc(rgba, left + 0.08, 0.75, (0.07, 0.05), (1, 1, 0.85))
    box(rgba, 0, 0.84, 1, 1, (0.2, 0.2, 0.21))
    return weather(rgba, style, rng, 0.4)
