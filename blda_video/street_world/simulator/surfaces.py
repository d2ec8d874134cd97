"""Painters of surfaces without holes: ground, facades, walls, sky. Each returns RGBA (T, T, 4) in [0, 1]."""

from __future__ import annotations

import numpy as np

from blda_video.street_world.simulator.paint import TILE, Style, box, noise, opaque, weather

Rng = np.random.Generator


def sky(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """Zenith at the top, horizon at the bottom, few clouds, some or many."""
    height = np.linspace(0, 1, TILE, dtype=np.float32)[:, None, None]
    picture = style.color("sky", 0) * (1 - height) + style.color("sky", 1) * height
    cloud = (noise(rng, 1.6) * 0.5 + (-0.2, 0.2, 0.7)[variant]).clip(0, 1)[..., None]
    return opaque(picture * (1 - cloud) + style.color("cloud") * cloud)


def asphalt(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """Bare road."""
    return weather(opaque(style.color("road", variant)), style, rng, 1.2)


def road(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """The whole width of a road: edge lines, a dashed centre line, worn tracks."""
    rgba = asphalt(style, rng, variant)
    paint = style.color("marking")
    box(rgba, 0.02, 0, 0.035, 1, paint)
    box(rgba, 0.965, 0, 0.98, 1, paint)
    box(rgba, 0.492, 0, 0.508, 0.5 if variant == 0 else 1, paint)
    across = np.arange(TILE) / TILE
    tracks = sum(np.exp(-(((across - x) / 0.035) ** 2)) for x in (0.2, 0.36, 0.64, 0.8))
    rgba[..., :3] *= (1 - 0.8 * style.stain * tracks)[None, :, None]
    return weather(rgba, style, rng, 0.3)


def paving(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """Slabs with joints."""
    rgba = opaque(style.color("sidewalk", variant))
    slabs = 4 if variant == 0 else 6
    shade = rng.normal(1, 0.6 * style.stain, (slabs, slabs)).astype(np.float32)
    rgba[..., :3] *= np.kron(shade, np.ones((-(-TILE // slabs),) * 2, np.float32))[:TILE, :TILE, None]
    for k in range(slabs):
        rgba[k * TILE // slabs : k * TILE // slabs + 3, :, :3] *= 1 - style.joint
        rgba[:, k * TILE // slabs : k * TILE // slabs + 3, :3] *= 1 - style.joint
    return weather(rgba, style, rng)


def curb(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """The stone edge of a sidewalk."""
    return weather(opaque(style.color("sidewalk", 1) * 0.8), style, rng)


def grass(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """Two tones of ground cover in patches."""
    mix = (noise(rng, 1.3) * 0.5 + 0.5).clip(0, 1)[..., None]
    picture = style.color("grass", 2 * variant) * mix + style.color("grass", 2 * variant + 1) * (1 - mix)
    return weather(opaque(picture), style, rng, 1.5)


def facade(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """Two floors of three windows; it tiles along the street and upwards."""
    rgba = weather(opaque(style.color("facade", variant)), style, rng)
    columns, width, tall = ((3, 0.5, 0.6), (2, 0.7, 0.45), (4, 0.55, 0.7))[variant % 3]
    frame, glass = style.color("frame", variant), style.color("window", variant)
    for floor in range(2):
        top = floor / 2 + (1 - tall) / 4
        for column in range(columns):
            left = (column + (1 - width) / 2) / columns
            right, bottom = left + width / columns, top + tall / 2
            box(rgba, left - 0.015, top - 0.015, right + 0.015, bottom + 0.03, frame)
            tone = 1 + style.grain * 3 * rng.standard_normal()
            box(rgba, left, top, right, bottom, (glass * tone).clip(0, 1))
            box(rgba, left, (top + bottom) / 2 - 0.005, right, (top + bottom) / 2 + 0.005, frame)
        if variant % 2:
            box(rgba, 0, floor / 2, 1, floor / 2 + 0.03, frame)
    return weather(rgba, style, rng, 0.4)


def gable(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A house's blind side."""
    rgba = opaque(style.color("facade", 2 * variant) * 0.85)
    for k in range(16):
        rgba[k * 16 : k * 16 + 2, :, :3] *= 1 - 0.4 * style.joint
    return weather(rgba, style, rng)


def masonry(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """Courses of bricks, blocks or concrete panels under a coping."""
    rgba = opaque(style.color("wall", variant))
    rows, columns = ((12, 6), (6, 4), (2, 2))[variant % 3]
    high, wide = TILE // rows, TILE // columns
    for row in range(rows):
        for column in range(-1, columns):
            left = column * wide + (row % 2) * wide // 2
            tile = rgba[row * high : (row + 1) * high, max(left, 0) : left + wide, :3]
            tile *= 1 + 1.2 * style.stain * rng.standard_normal()
            tile[:3] *= 1 - style.joint
            tile[:, :3] *= 1 - style.joint
    box(rgba, 0, 0, 1, 0.08, style.color("wall", variant) * 0.7)
    return weather(rgba, style, rng)


def fence(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """Pickets, bars or mesh before a dark ground; labelled as a whole, as annotators do."""
    rgba = opaque(style.color("behind"))
    bars, width = ((10, 0.06), (16, 0.022), (5, 0.17))[variant % 3]
    color = style.color("fence", variant)
    for bar in range(bars):
        box(rgba, bar / bars, 0, bar / bars + width, 1, color * (0.85 + 0.15 * (bar % 2)))
    for height in (0.12, 0.5, 0.88):
        box(rgba, 0, height - 0.03, 1, height + 0.03, color)
    return weather(rgba, style, rng)


def _cylinder(rgba: np.ndarray) -> np.ndarray:
    rgba[..., :3] *= np.sin(np.linspace(0.35, 2.6, TILE)).astype(np.float32)[None, :, None]
    return rgba


def pole(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A round post."""
    return weather(_cylinder(opaque(style.color("pole", variant))), style, rng, 0.5)


def trunk(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """Bark."""
    return weather(_cylinder(opaque(style.color("bark"))), style, rng, 2.0)


def hedge(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A wall of leaves."""
    return weather(leaves(style, rng, variant), style, rng)


def leaves(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """Leaves in two tones, darker below."""
    mix = (noise(rng, 1.0) * 0.4 + 0.5).clip(0, 1)[..., None]
    rgba = opaque(style.color("leaf", variant) * (0.6 + 0.6 * mix))
    rgba[..., :3] *= np.linspace(1.15, 0.7, TILE, dtype=np.float32)[:, None, None]
    return rgba


def glass(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """A vehicle's window."""
    rgba = opaque(style.color("glass"))
    rgba[..., :3] *= np.linspace(1.3, 0.8, TILE, dtype=np.float32)[:, None, None]
    return rgba


def bodywork(style: Style, rng: Rng, variant: int) -> np.ndarray:
    """Plain white, to be tinted."""
    return weather(opaque(np.full(3, 0.95, np.float32)), style, rng, 0.2)
