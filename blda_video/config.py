"""Config of a video adaptation run: the image config extended by clips, flow and propagation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from blda.config.data_schema import Component, Target
from blda.config.ranges import Count, Natural, NotNegative, Offset, Positive, Range
from blda.config.schema import Config

Side = Annotated[int, Range(16)]
"""Of a street world's images."""


@dataclass(frozen=True)
class Smoothing:
    """Smoothing of the target statistics over a clip.

    scale: frames over which an observation's weight falls to 1/e (METHOD 7).
    """

    scale: Positive = 2.0


@dataclass(frozen=True)
class Motion:
    """Evidence of the optical flow for pseudo-labels (METHOD 7).

    weights: file of `blda train-motion`. power: trust in it, 0 for none. steps, batch: of its training.
    flow: of the source, whose labels and flow it learns from; null for the run's estimator, applied to the crops.
    """

    weights: str | Path
    power: NotNegative = 0.5
    steps: Count = 2000
    batch: Count = 4
    flow: Component | None = None


@dataclass(frozen=True)
class WorldSpec:
    """A street world to make; `split` names a part of it below `root`, and parts share no sequence.

    layout: a name of blda_video/street_world/layouts/layout_names.py. look: 'source' or 'target'. size: (height,
    width). labelled: frame numbers that get a label file; None is every frame for VIPER, 4, 9, 14, 19, ... for
    Cityscapes-Seq
        (the real data set has number 19 of each 30 frames only), and the frames labelled in the real data set for the
        other layouts.
    flow: also store the exact flow between consecutive frames, both directions, in `<root>/flow`.
    density: factor of how frequent things are, or class -> factor (person, car, truck, bus, train, motorcycle, bicycle,
        pole, sign), 1 for what is not named. shift: how far the target's colours, light and camera are from the
        source's: 0 the source's own, 1 the look's, at most 2; it changes nothing of the look 'source'.
    options: keywords of the layout.
    Raises ValueError for a value that no layout can have; the other checks are made when the world is written.
    """

    root: str | Path
    layout: str
    look: str
    split: str = "train"
    sequences: Count = 8
    frames: Count = 30
    size: tuple[Side, Side] = (128, 256)
    seed: Natural = 0
    labelled: tuple[Natural, ...] | None = None
    flow: bool = False
    density: Any = 1.0
    shift: NotNegative = 1.0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.split or any(mark in self.split for mark in "/\\."):
            raise ValueError(f"'{self.split}' is no name for a split; use a folder name such as train")
        if len(self.size) != 2 or min(self.size) < 16:
            raise ValueError(f"size {tuple(self.size)} of a street world; use (height, width) of at least 16")
        if min(self.sequences, self.frames) < 1 or self.seed < 0:
            raise ValueError(
                f"sequences {self.sequences}, frames {self.frames}, seed {self.seed} of a street world; use at least "
                "1 sequence of 1 frame, and a seed of at least 0"
            )
        object.__setattr__(self, "root", Path(self.root))
        object.__setattr__(self, "size", tuple(int(side) for side in self.size))

    @property
    def manifest(self) -> Path:
        """Path of the manifest, which marks this split as complete and records the settings that made it."""
        return self.root / f"world_{self.split}.json"


@dataclass(frozen=True)
class VideoTarget(Target):
    """Clips of the target domain; see `Target`.

    flow: of these clips where it is not the run's, as each data set has a store of its own; {name: none} for images
        without video, which take part as clips without neighbours.
    """

    flow: Component | None = None
    others: tuple[VideoTarget, ...] = ()


@dataclass(frozen=True)
class VideoConfig(Config):
    """Config of a video run.

    offsets: signed frame distances of the context of a target clip. flow: {name: dis, preset} on the crop, or {name:
    store, root} computed before. chain: compose flow over several frames from links of so many frames; null: estimate
    it directly. rule: propagation rule that combines the frames' probabilities, a name or {name, keyword: value}.
    motion: evidence of the flow for pseudo-labels, null for none. smoothing: null for none. consistency: offsets that
    evaluation compares with, empty for none. worlds: street worlds to make first.
    """

    target: VideoTarget
    offsets: tuple[Offset, ...] = (-1,)
    flow: Component = field(default_factory=lambda: {"name": "dis", "preset": "medium"})
    chain: Count | None = None
    rule: Any = "trajectory"
    motion: Motion | None = None
    smoothing: Smoothing | None = Smoothing()
    consistency: tuple[Offset, ...] = (-1,)
    worlds: tuple[WorldSpec, ...] = ()

    def places(self) -> list[Any]:
        """Return the components and paths whose files move with `data_root`."""
        flows = (each.flow for each in self.target.members if isinstance(each, VideoTarget) and each.flow)
        own = [self.motion.flow] if self.motion and self.motion.flow else []
        return [*super().places(), self.flow, *flows, *own, *(world.root for world in self.worlds)]
