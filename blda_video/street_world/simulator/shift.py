"""Size of the domain shift: looks between the source's and the target's, and beyond."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import lru_cache
from typing import Any

from blda_video.street_world.simulator.domains import LOOKS, SOURCE, TARGET
from blda_video.street_world.simulator.look import Lens, Look
from blda_video.street_world.simulator.paint import Style

MOST = 2.0
"""Largest shift, twice the way from the source's look to the target's."""


@lru_cache(maxsize=8)  # a look paints its textures once
def shifted(name: str, shift: float) -> Look:
    """Return a look whose colours, light, air, lens and sensor lie `shift` of the way from the source's to its own.

    0 photographs the streets of the look as the source does, 1 is the look itself, above 1 exaggerates. Streets and
    labels do not depend on it. Raises ValueError for an unknown look and a shift outside 0 .. MOST.
    """
    if name not in LOOKS:
        raise ValueError(f"no look '{name}' in the street world; choose one of {', '.join(LOOKS)}")
    if isinstance(shift, bool) or not isinstance(shift, int | float) or not 0 <= shift <= MOST:
        raise ValueError(f"shift is {shift!r}; give 0 (the source's colours) to {MOST:g}, 1 leaves the look's own")
    if shift == 1 or LOOKS[name] is SOURCE:
        return LOOKS[name]
    return replace(
        TARGET,
        habits=replace(TARGET.habits, paints=_colors(SOURCE.habits.paints, TARGET.habits.paints, shift)),
        style=_style(shift),
        light=_between(SOURCE.light, TARGET.light, shift),
        lens=_lens(shift),
    )


def _style(shift: float) -> Style:
    palettes = SOURCE.style.palette, TARGET.style.palette
    palette = {family: _colors(palettes[0][family], palettes[1][family], shift) for family in palettes[1]}
    return replace(_between(SOURCE.style, TARGET.style, shift, but="palette"), palette=palette)


def _lens(shift: float) -> Lens:
    """Return the lens; the source's images are as good as JPEGs of quality 100."""
    quality = round(_between(100.0, float(TARGET.lens.jpeg), shift))
    return replace(_between(SOURCE.lens, TARGET.lens, shift, but="jpeg"), jpeg=quality if shift else None)


def _colors(source: Any, target: Any, shift: float) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(min(value, 1.0) for value in color) for color in _between(source, target, shift))


def _between(source: Any, target: Any, shift: float, but: str = "") -> Any:
    """Interpolate numbers of at least 0, tuples and dataclasses of them; but: field that is left as the target's."""
    if isinstance(target, tuple):
        return tuple(_between(a, b, shift) for a, b in zip(source, target, strict=True))
    if isinstance(target, int | float):
        return max(0.0, source + shift * (target - source))
    names = [field.name for field in fields(target) if field.name != but]
    return replace(target, **{name: _between(getattr(source, name), getattr(target, name), shift) for name in names})
