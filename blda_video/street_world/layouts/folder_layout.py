"""Folders of images and labels as a config declares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from blda_video.street_world.layouts.camvid_layouts import SEGNET
from blda_video.street_world.layouts.encode import grey
from blda_video.street_world.layouts.layout import Frames, Place, Usual
from blda_video.street_world.simulator.materials import CLASSES


def folder(
    images: str = "images",
    labels: str | None = "labels",
    ids: Mapping[int, str] = MappingProxyType(dict(enumerate(CLASSES))),
    folders: Sequence[str] = ("drive_1", "drive_2"),
    image_suffix: str = ".jpg",
    label_suffix: str = ".png",
    spacing: int = 1,
) -> Frames:
    """`<images>/<folder>/00000<image_suffix>`, `<labels>/<folder>/00000<label_suffix>` with ids in grey.

    Takes the keywords of the reader `folder`, with paths below the root. folders: one drive each. ids: see `dealt`.
    """
    save = grey(dealt(ids)) if labels else None

    def stem(place: Place) -> str:
        return f"{folders[place.sequence]}/{place.t * spacing:05d}"

    return Frames(
        Usual("target", ("all",), len(folders), 4, (72, 96), most=len(folders)),
        naming=stem,
        image=lambda place: f"{images}/{stem(place)}{image_suffix}",
        labels=lambda place: {f"{labels}/{stem(place)}{label_suffix}": save} if save else {},
        folders=lambda split: tuple(f"{tree}/{name}" for tree in (images, labels) if tree for name in folders),
    )


def dealt(ids: Mapping[int, str]) -> dict[str, int]:
    """Map each class of the world to an id of a data set with any class names.

    A class gets the id with its own name or its name in CamVid. The remaining classes get the unused ids one after the
    other, so that each id occurs; any further classes get the first id.
    """
    known = {name: int(raw) for raw, name in ids.items()}
    arguments = {name: known.get(name, known.get(SEGNET[name])) for name in CLASSES}
    free = [raw for raw in known.values() if raw not in arguments.values()] or [next(iter(known.values()))]
    others = [name for name, raw in arguments.items() if raw is None]
    turns = {name: free[turn % len(free)] for turn, name in enumerate(others)}
    return {name: turns.get(name, raw) for name, raw in arguments.items()}
