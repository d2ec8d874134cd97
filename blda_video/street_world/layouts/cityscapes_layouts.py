"""Cityscapes, as images and as video."""

from __future__ import annotations

from collections.abc import Mapping

from blda.data.readers.cityscapes import LABEL_IDS, TRAIN_IDS
from blda_video.clips.readers.cityscapes_sequence import KEY, SNIPPET
from blda_video.street_world.layouts.encode import Save, grey, raw_ids
from blda_video.street_world.layouts.layout import Frames, Place, Usual, every

CITY = "streetworld"
CITYSCAPES_IDS = raw_ids(LABEL_IDS)


def both_kinds(stem: str) -> Mapping[str, Save]:
    """`<stem>_labelIds.png` and `<stem>_labelTrainIds.png`."""
    kinds = {"labelIds": CITYSCAPES_IDS, "labelTrainIds": raw_ids(TRAIN_IDS)}
    return {f"{stem}_{kind}.png": grey(ids) for kind, ids in kinds.items()}


def cityscapes() -> Frames:
    """`leftImg8bit/<split>/<city>/*_leftImg8bit.png`; `gtFine` has the raw ids and what the owners' script makes."""

    def stem(place: Place) -> str:
        return f"{place.split}/{CITY}/{CITY}_{place.sequence:06d}_{KEY + SNIPPET * place.t:06d}"

    return Frames(
        Usual("target", ("train", "val"), 3, 1, (64, 128)),
        naming=stem,
        image=lambda place: f"leftImg8bit/{stem(place)}_leftImg8bit.png",
        labels=lambda place: both_kinds(f"gtFine/{stem(place)}_gtFine"),
        folders=lambda split: (f"leftImg8bit/{split}", f"gtFine/{split}"),
    )


def cityscapes_seq(kind: str = "labelIds") -> Frames:
    """`leftImg8bit_sequence/<split>/<city>/*_leftImg8bit.png`; published are labels of the 20th of 30 frames."""
    save = grey(CITYSCAPES_IDS if kind == "labelIds" else raw_ids(TRAIN_IDS))

    def stem(place: Place) -> str:
        return f"{place.split}/{CITY}/{CITY}_{place.sequence:06d}_{place.t:06d}"

    return Frames(
        Usual("target", ("train", "val"), 2, SNIPPET, (64, 128)),
        naming=stem,
        image=lambda place: f"leftImg8bit_sequence/{stem(place)}_leftImg8bit.png",
        labels=lambda place: {f"gtFine/{stem(place)}_gtFine_{kind}.png": save},
        folders=lambda split: (f"leftImg8bit_sequence/{split}", f"gtFine/{split}"),
        labelled=every(5, first=4),
        published=every(SNIPPET, first=KEY),
    )
