"""VIPER and GTA5: indexed PNG labels with the owners' palettes."""

from __future__ import annotations

from blda.data.readers.cityscapes import LABEL_IDS
from blda.data.readers.viper import IDS
from blda_video.street_world.layouts.encode import Colour, indexed, raw_ids
from blda_video.street_world.layouts.layout import Frames, Place, Usual, every

VIPER_IDS = raw_ids(IDS, instead={"rider": "person"}, other=10)
"""VIPER has no wall and no pole (both are 10, infrastructure, which readers ignore) and counts riders as persons."""

# fmt: off
VIPER_PALETTE: tuple[Colour, ...] = (
    (0, 0, 0), (111, 74, 0), (70, 130, 180), (128, 64, 128), (244, 35, 232), (230, 150, 140), (152, 251, 152),
    (87, 182, 35), (35, 142, 35), (70, 70, 70), (153, 153, 153), (190, 153, 153), (150, 20, 20), (250, 170, 30),
    (220, 220, 0), (180, 180, 100), (173, 153, 153), (168, 153, 153), (81, 0, 21), (81, 0, 81), (220, 20, 60),
    (255, 0, 0), (119, 11, 32), (0, 0, 230), (0, 0, 142), (0, 80, 100), (0, 60, 100), (0, 0, 70), (0, 0, 90),
    (0, 80, 100), (0, 100, 100), (50, 0, 90),
)
"""Colours of VIPER's ids 0 .. 31 (25 and 29 are equal in the original, too)."""

GTA5_PALETTE: tuple[Colour, ...] = (
    (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, 0), (111, 74, 0), (81, 0, 81), (128, 64, 128), (244, 35, 232),
    (250, 170, 160), (230, 150, 140), (70, 70, 70), (102, 102, 156), (190, 153, 153), (180, 165, 180), (150, 100, 100),
    (150, 120, 90), (153, 153, 153), (153, 153, 153), (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152),
    (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 0, 90), (0, 0, 110),
    (0, 80, 100), (0, 0, 230), (119, 11, 32), (0, 0, 142),
)
"""Colours of the raw Cityscapes ids 0 .. 34."""
# fmt: on


def viper() -> Frames:
    """`<split>/img/001/001_00010.jpg`, `<split>/cls/001/001_00010.png`; published are labels of every tenth frame."""
    save = indexed(VIPER_IDS, VIPER_PALETTE)

    def stem(place: Place) -> str:
        return f"{place.sequence + 1:03d}/{place.sequence + 1:03d}_{place.t:05d}"

    return Frames(
        Usual("source", ("train", "val"), 2, 21, (72, 128)),
        naming=lambda place: f"{place.split}/{stem(place)}",
        image=lambda place: f"{place.split}/img/{stem(place)}.jpg",
        labels=lambda place: {f"{place.split}/cls/{stem(place)}.png": save},
        folders=lambda split: (split,),
        published=every(10),
    )


def gta5() -> Frames:
    """`images/00001.png`, `labels/00001.png`."""
    save = indexed(raw_ids(LABEL_IDS), GTA5_PALETTE)

    def stem(place: Place) -> str:
        return f"{place.sequence * place.frames + place.t + 1:05d}"

    return Frames(
        Usual("source", ("train",), 4, 1, (70, 127)),
        naming=stem,
        image=lambda place: f"images/{stem(place)}.png",
        labels=lambda place: {f"labels/{stem(place)}.png": save},
        folders=lambda split: ("images", "labels"),
        all_split="train",
    )
