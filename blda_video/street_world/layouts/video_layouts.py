"""Layouts with one video file per drive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

import numpy as np

from blda_video.street_world.layouts.encode import write_video
from blda_video.street_world.layouts.layout import Frames, Place, Usual, made
from blda_video.street_world.simulator.world import World


@dataclass(frozen=True)
class Videos:
    """Drives as video files, their labelled frames as image files if there is a layout for these.

    naming: the reader's name of a labelled frame. video: the file of a drive. still: number of frames that repeat the
    first one before the drive; they cost almost nothing and give the times and frame numbers of long originals. stills:
    layout of the labelled frames. published: the frames labelled in the original, also the default in a street world.
    """

    usual: Usual
    naming: Callable[[Place], str]
    video: Callable[[Place], str]
    folders: Callable[[str], tuple[str, ...]]
    published: Callable[[int], tuple[int, ...]]
    still: int = 0
    stills: Frames | None = None

    @property
    def labelled(self) -> Callable[[int], tuple[int, ...]]:
        """Frames that have labels by default, see `Layout`."""
        return self.published

    def pieces(self, split: str) -> tuple[str, ...]:
        """Folders of this split, see `Layout`."""
        return self.folders(split)

    def lists(self, split: str, sequences: int, frames: int) -> Mapping[str, str]:
        """Text files of this split, see `Layout`."""
        return {}

    def name(self, place: Place) -> str:
        """Name of a labelled frame, see `Layout`."""
        return self.naming(place)

    def write(self, root: Path, split: str, sequence: int, world: World, labelled: tuple[int, ...]) -> None:
        """Write a drive as a video, see `Layout`."""
        for t in labelled if self.stills else ():
            self.stills.write_frame(root, Place(split, sequence, t, world.frames), world.frame(t), labelled=True)
        path = made(root / self.video(Place(split, sequence, 0, world.frames)))
        write_video(path, self._images(world))

    def _images(self, world: World) -> Iterator[np.ndarray]:
        first = world.frame(0).image
        drive = (world.frame(t).image for t in range(1, world.frames))
        return chain(repeat(first, self.still + 1), drive)


def videos(files: str | Sequence[str] = "*.mp4", still: int = 0) -> Videos:
    """Video files alone. files: their names below the root, or a pattern whose stars become letters: a.mp4, b.mp4."""
    number = 26 if isinstance(files, str) else len(files)

    def path(sequence: int) -> str:
        letter = chr(ord("a") + sequence)
        return files.replace("**/", "").replace("*", letter) if isinstance(files, str) else files[sequence]

    return Videos(
        Usual("target", ("all",), 2 if isinstance(files, str) else number, 12, (72, 128), most=number),
        naming=lambda place: f"{Path(path(place.sequence)).with_suffix('').as_posix()}/{still + place.t:06d}",
        video=lambda place: path(place.sequence),
        folders=lambda split: tuple(path(sequence) for sequence in range(number)),
        published=lambda frames: (),
        still=still,
    )
