"""Resolution of a run: multiplies every length in pixels of a config by one factor.

HRDA's published settings are DAFormer's at twice the resolution in every such length: images, crops, margins, rows,
blocks of MIC's masks, and four times the pixels that rare-class sampling asks of a crop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

C = TypeVar("C")

WHOLE = ("source.resize", "target.resize", "evaluation.size")
"""Sizes of whole images, without which nothing can be multiplied."""
LENGTHS = (
    *WHOLE,
    *("source.others.resize", "target.others.resize"),
    *("source.crop", "target.crop", "evaluation.window", "evaluation.stride"),
    *("self_training.ignore_top", "self_training.ignore_bottom", "self_training.margins", "self_training.masked.block"),
    *("model.hrda.detail", "classification.centre", "classification.mask.block"),
)
AREAS = ("source.rare.min_crop_ratio",)


def at_resolution(config: C) -> C:
    """Return the config with its lengths multiplied by its `resolution`, and resolution 1.

    Raises ValueError when the resolution is not positive or an image has no size to multiply.
    """
    factor = config.resolution
    if factor == 1:
        return config
    if factor <= 0:
        raise ValueError(f"resolution is {factor:g}; it multiplies lengths, so it must be above 0")
    for path in WHOLE:
        role, key = path.split(".")
        parts = getattr(getattr(config, role), "members", (getattr(config, role),))
        if any(getattr(part, key) is None for part in parts):
            raise ValueError(f"resolution is {factor:g}, but {path} is null; give the (height, width) at resolution 1")
    for path in LENGTHS:
        config = _changed(config, path, lambda length: scaled(length, factor))
    for path in AREAS:
        config = _changed(config, path, lambda area: area * factor**2)
    return replace(config, resolution=1.0)


def scaled(length: Any, factor: float) -> Any:
    """Multiply and round one or several numbers of pixels; those above 0 stay at least 1."""
    if isinstance(length, tuple):
        return tuple(scaled(side, factor) for side in length)
    return max(round(length * factor), min(length, 1))


def value_at(config: Any, path: str) -> Any:
    """Return the value of a config at a dotted path such as a.b.c; None if any part of it is None."""
    for name in path.split("."):
        config = getattr(config, name, None)
    return config


def _changed(part: Any, path: str, change: Callable[[Any], Any]) -> Any:
    name, _, rest = path.partition(".")
    value = getattr(part, name, None)
    if value is None:
        return part
    if rest and isinstance(value, tuple):
        return replace(part, **{name: tuple(_changed(item, rest, change) for item in value)})
    return replace(part, **{name: _changed(value, rest, change) if rest else change(value)})
