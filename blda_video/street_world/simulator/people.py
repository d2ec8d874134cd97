"""Painters of people, riders and two-wheelers. Each returns RGBA (T, T, 4) in [0, 1], A = 0 in holes.

A rider is painted on the tile of the two-wheeler, so that the two fit.
"""

from __future__ import annotations

import numpy as np

from blda_video.street_world.simulator.paint import DARK, Style, blank, box, disc, line, shape, weather

Rng = np.random.Generator


def person(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """Someone seen from the front or from behind."""
    rgba = blank()
    coat, trousers, skin = style.color("coat", variant), style.color("trousers", variant), style.color("skin", variant)
    shape(rgba, [(0.28, 0.48), (0.5, 0.5), (0.47, 0.97), (0.25, 0.97)], trousers)
    shape(rgba, [(0.72, 0.48), (0.5, 0.5), (0.54, 0.97), (0.76, 0.97)], trousers * 0.9)
    box(rgba, 0.2, 0.95, 0.47, 1, DARK)
    box(rgba, 0.53, 0.95, 0.8, 1, DARK)
    shape(rgba, [(0.2, 0.17), (0.8, 0.17), (0.97, 0.5), (0.83, 0.53), (0.78, 0.56), (0.22, 0.56), (0.03, 0.5)], coat)
    line(rgba, [(0.25, 0.27), (0.2, 0.5)], 0.02, coat * 0.7)
    line(rgba, [(0.75, 0.27), (0.8, 0.5)], 0.02, coat * 0.7)
    disc(rgba, 0.5, 0.095, (0.17, 0.09), skin if variant % 2 else style.color("hair"))
    disc(rgba, 0.5, 0.06, (0.17, 0.06), style.color("hair"))
    return weather(rgba, style, rng, 0.7)


def walker(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """Someone walking, seen from the side."""
    rgba = blank()
    coat, trousers = style.color("coat", variant + 1), style.color("trousers", variant + 1)
    line(rgba, [(0.5, 0.5), (0.3, 0.75), (0.12, 0.95)], 0.15, trousers * 0.8)
    line(rgba, [(0.5, 0.5), (0.68, 0.73), (0.78, 0.95)], 0.15, trousers)
    box(rgba, 0.03, 0.94, 0.28, 1, DARK)
    box(rgba, 0.7, 0.94, 0.95, 1, DARK)
    shape(rgba, [(0.34, 0.18), (0.64, 0.18), (0.7, 0.56), (0.3, 0.56)], coat)
    line(rgba, [(0.48, 0.24), (0.62, 0.4), (0.82, 0.48)], 0.1, coat * 0.75)
    disc(rgba, 0.52, 0.095, (0.15, 0.09), style.color("skin", variant))
    disc(rgba, 0.47, 0.07, (0.15, 0.065), style.color("hair"))
    return weather(rgba, style, rng, 0.7)


def rider_behind(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """The rider of a two-wheeler from behind; the tile is the one of the two-wheeler."""
    rgba = blank()
    coat, trousers = style.color("coat", variant + 2), style.color("trousers", variant)
    line(rgba, [(0.4, 0.5), (0.24, 0.78)], 0.13, trousers)
    line(rgba, [(0.6, 0.5), (0.76, 0.72)], 0.13, trousers)
    shape(rgba, [(0.24, 0.16), (0.76, 0.16), (0.95, 0.42), (0.74, 0.46), (0.7, 0.58), (0.3, 0.58), (0.05, 0.42)], coat)
    disc(rgba, 0.5, 0.09, (0.19, 0.085), style.color("helmet", variant))
    return weather(rgba, style, rng, 0.7)


def rider_side(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """The rider of a two-wheeler from the side."""
    rgba = blank()
    coat, trousers = style.color("coat", variant + 2), style.color("trousers", variant)
    line(rgba, [(0.4, 0.5), (0.58, 0.6), (0.52, 0.82)], 0.09, trousers)
    shape(rgba, [(0.42, 0.18), (0.58, 0.2), (0.5, 0.54), (0.32, 0.54)], coat)
    line(rgba, [(0.5, 0.25), (0.64, 0.4), (0.74, 0.42)], 0.06, coat * 0.8)
    disc(rgba, 0.53, 0.1, (0.09, 0.085), style.color("helmet", variant))
    return weather(rgba, style, rng, 0.7)


def bicycle_behind(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A bicycle from behind: a wheel, a rack, the handlebar."""
    rgba = blank()
    color = style.color("bicycle", variant)
    box(rgba, 0.39, 0.52, 0.61, 1, DARK)
    box(rgba, 0.22, 0.56, 0.78, 0.76, color)
    line(rgba, [(0.08, 0.42), (0.92, 0.42)], 0.06, color)
    line(rgba, [(0.3, 0.8), (0.7, 0.8)], 0.04, color)
    return weather(rgba, style, rng, 0.5)


def bicycle_side(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A bicycle from the side; the wheels are labelled as discs, as annotators do."""
    rgba = blank()
    color = style.color("bicycle", variant)
    for x in (0.22, 0.78):
        disc(rgba, x, 0.81, (0.2, 0.185), DARK)
        disc(rgba, x, 0.81, (0.165, 0.15), style.color("spokes"))
        disc(rgba, x, 0.81, (0.03, 0.03), DARK)
    line(rgba, [(0.22, 0.81), (0.4, 0.57), (0.68, 0.57), (0.5, 0.82), (0.22, 0.81)], 0.035, color)
    line(rgba, [(0.5, 0.82), (0.38, 0.52)], 0.035, color)
    line(rgba, [(0.78, 0.81), (0.66, 0.48), (0.74, 0.45)], 0.035, color)
    box(rgba, 0.3, 0.49, 0.45, 0.53, DARK)
    return weather(rgba, style, rng, 0.5)


def motorcycle_behind(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A motorcycle from behind: a fat wheel, cases, mirrors, a lamp."""
    rgba = blank()
    color = style.color("motorcycle", variant)
    box(rgba, 0.36, 0.55, 0.64, 1, DARK)
    shape(rgba, [(0.25, 0.5), (0.75, 0.5), (0.88, 0.8), (0.12, 0.8)], color)
    line(rgba, [(0.02, 0.4), (0.98, 0.4)], 0.08, DARK)
    box(rgba, 0.38, 0.58, 0.62, 0.66, (0.9, 0.1, 0.08))
    return weather(rgba, style, rng, 0.5)


def motorcycle_side(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A motorcycle from the side."""
    rgba = blank()
    color = style.color("motorcycle", variant)
    for x in (0.2, 0.8):
        disc(rgba, x, 0.82, (0.18, 0.17), DARK)
        disc(rgba, x, 0.82, (0.09, 0.085), (0.5, 0.5, 0.5))
    shape(rgba, [(0.12, 0.6), (0.4, 0.6), (0.5, 0.5), (0.72, 0.5), (0.8, 0.7), (0.62, 0.9), (0.34, 0.9)], color)
    shape(rgba, [(0.1, 0.55), (0.45, 0.55), (0.4, 0.64), (0.15, 0.62)], DARK)
    line(rgba, [(0.8, 0.8), (0.7, 0.45), (0.62, 0.42)], 0.05, DARK)
    return weather(rgba, style, rng, 0.5)
