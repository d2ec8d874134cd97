"""A run of video adaptation: the image run with time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from blda.config import Config, Part
from blda_video.data.world.writer import WorldSpec


@dataclass(frozen=True)
class Smoothing:
    """scale: frames over which an observation's weight falls to 1/e (METHOD 7)."""

    scale: float = 2.0


@dataclass(frozen=True)
class VideoConfig(Config):
    """offsets: signed frame distances of the context of a target clip. flow: {name: dis, preset} on the crop, or
    {name: store, root} computed before. chain: compose flow over several frames of links of so many frames, null: take
    it directly. rule: how beliefs of frames are combined, a name or {name, keyword: value}.
    smoothing: null for none. consistency: offsets that evaluation compares with, empty for none. worlds: street worlds
    to make first."""

    offsets: tuple[int, ...] = (-1,)
    flow: Part = field(default_factory=lambda: {"name": "dis", "preset": "medium"})
    chain: int | None = None
    rule: Any = "trajectory"
    smoothing: Smoothing | None = Smoothing()
    consistency: tuple[int, ...] = (-1,)
    worlds: tuple[WorldSpec, ...] = ()
