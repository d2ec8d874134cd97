"""Interface of layouts: a layout writes the drives of a street world as the files of a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from blda_video.street_world.layouts.encode import Save, write_image
from blda_video.street_world.simulator.world import World, WorldFrame


@dataclass(frozen=True)
class Place:
    """Frame `t` of the `frames` frames of sequence `sequence` (from 0) of a split."""

    split: str
    sequence: int
    t: int
    frames: int


@dataclass(frozen=True)
class Usual:
    """Default form of a small copy.

    size: (height, width) with the original's aspect ratio. most, most_frames: largest number of sequences, and of
    frames in each.
    """

    look: str
    splits: tuple[str, ...]
    sequences: int
    frames: int
    size: tuple[int, int]
    most: int = 999
    most_frames: int = 99999


class Layout(Protocol):
    """Names and encodings of a data set's files; every process makes its own from the name and keywords.

    usual: default form of a small copy. labelled: number of frames -> frames that have labels by default in a street
    world. published: number of frames -> frames that have labels in the original.
    """

    usual: Usual
    labelled: Callable[[int], tuple[int, ...]]
    published: Callable[[int], tuple[int, ...]]

    def pieces(self, split: str) -> tuple[str, ...]:
        """Folders below the root that belong to this split and no other."""
        ...

    def lists(self, split: str, sequences: int, frames: int) -> Mapping[str, str]:
        """Text files that a split has besides: path below the root -> content."""
        ...

    def name(self, place: Place) -> str:
        """The name that the layout's reader gives to a frame."""
        ...

    def write(self, root: Path, split: str, sequence: int, world: World, labelled: tuple[int, ...]) -> None:
        """Write a sequence. labelled: its frames that have labels."""
        ...


def everything(frames: int) -> tuple[int, ...]:
    """Choose all frames."""
    return tuple(range(frames))


def every(step: int, first: int = 0) -> Callable[[int], tuple[int, ...]]:
    """Choose every `step`-th frame from `first` on, or the last frame when there is none."""
    return lambda frames: tuple(range(first, frames, step)) or (frames - 1,)


@dataclass(frozen=True)
class Frames:
    """Layout with one image file per frame.

    naming: the reader's name of a frame. image: its image file below the root. labels: its label files there, empty
    where the original has none. folders: split -> `pieces`. all_split: for data sets without split folders, the split
    that is all frames; any other is a text file `<split>.txt` of names.
    """

    usual: Usual
    naming: Callable[[Place], str]
    image: Callable[[Place], str]
    labels: Callable[[Place], Mapping[str, Save]]
    folders: Callable[[str], tuple[str, ...]]
    all_split: str | None = None
    labelled: Callable[[int], tuple[int, ...]] = everything
    published: Callable[[int], tuple[int, ...]] = everything

    def pieces(self, split: str) -> tuple[str, ...]:
        """Folders of this split, see `Layout`."""
        return self.folders(split)

    def lists(self, split: str, sequences: int, frames: int) -> Mapping[str, str]:
        """Text files of this split, see `Layout`."""
        if self.all_split in (None, split):
            return {}
        places = (Place(split, sequence, t, frames) for sequence in range(sequences) for t in range(frames))
        return {f"{split}.txt": "".join(f"{self.naming(place)}\n" for place in places)}

    def name(self, place: Place) -> str:
        """Name of a frame, see `Layout`."""
        return self.naming(place)

    def write(self, root: Path, split: str, sequence: int, world: World, labelled: tuple[int, ...]) -> None:
        """Write a sequence frame by frame, see `Layout`."""
        for t in range(world.frames):
            self.write_frame(root, Place(split, sequence, t, world.frames), world.frame(t), t in labelled)

    def write_frame(self, root: Path, place: Place, frame: WorldFrame, labelled: bool) -> None:
        """Write one frame."""
        write_image(made(root / self.image(place)), frame.image)
        for path, save in (self.labels(place) if labelled else {}).items():
            save(made(root / path), frame)


def made(path: Path) -> Path:
    """Make the folder of a path and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
