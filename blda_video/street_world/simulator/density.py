"""Density of things: towns in which people, vehicles and posts are rarer or more frequent than a look has them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from blda.spelling import nearest
from blda_video.street_world.simulator.street import Habits

THINGS: Mapping[str, tuple[str, ...]] = {
    "person": ("people", "crossing_people"),
    "car": ("parked_cars", "oncoming", "leading"),
    "truck": (),
    "bus": (),
    "train": (),
    "motorcycle": (),
    "bicycle": ("parked_bicycles",),
    "pole": ("poles",),
    "sign": ("signs",),
}
"""Class of a thing -> habits that say how frequent it is; `Habits.rare` counts as well, under the name of the class."""

MOST = 10.0
"""Largest factor."""

SHARES = ("leading",)
"""Habits that are shares of sequences, at most 1."""

Density = float | Mapping[str, float]
"""Factor for all of THINGS, or class -> factor, 1 for classes that are not named."""


def of_habits(habits: Habits, density: Density) -> Habits:
    """Multiply the frequencies of things; shares of sequences stay at most 1, and a density of 1 changes nothing.

    Riders follow their bicycles and motorcycles. Houses, crossings with their lights, and trees stay as they are, and
    a seed builds the same street in every density. Raises ValueError, see `factors`.
    """
    by_class, changed = factors(density), {}
    for name, factor in by_class.items():
        for habit in THINGS[name]:
            changed[habit] = factor * getattr(habits, habit)
    changed |= {habit: min(1.0, changed[habit]) for habit in SHARES}
    rare = {name: min(1.0, by_class[name] * share) for name, share in habits.rare.items()}
    return replace(habits, **changed, rare=rare)


def factors(density: Any) -> dict[str, float]:
    """Return the factor of each of THINGS; ValueError for an unknown class or a factor outside 0 .. MOST."""
    given = density if isinstance(density, Mapping) else dict.fromkeys(THINGS, density)
    for name, factor in given.items():
        if name not in THINGS:
            raise ValueError(f"density: no thing '{name}' in the street world; {nearest(str(name), THINGS)}")
        number = isinstance(factor, int | float) and not isinstance(factor, bool) and math.isfinite(factor)
        if not number or not 0 <= factor <= MOST:
            where = f"density.{name}" if isinstance(density, Mapping) else "density"
            raise ValueError(f"{where} is {factor!r}; give a factor of 0 to {MOST:g}, 1 leaves the look's own")
    return {name: float(given.get(name, 1)) for name in THINGS}
