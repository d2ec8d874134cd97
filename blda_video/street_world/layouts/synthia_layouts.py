"""SYNTHIA's sets: the class id is the red channel of a 16-bit PNG."""

from __future__ import annotations

from blda.data.readers.synthia import IDS
from blda_video.clips.readers.synthia_sequence import IDS as SEQUENCE_IDS
from blda_video.street_world.layouts.encode import raw_ids, red
from blda_video.street_world.layouts.layout import Frames, Place, Usual

SEQUENCE_RAW = raw_ids(SEQUENCE_IDS, instead={"rider": "bicycle"})
"""Wall, terrain, truck, bus, train and motorcycle are 0, void; riders are 11, as both published maps read it."""


def synthia() -> Frames:
    """SYNTHIA-RAND-CITYSCAPES: `RGB/0000000.png`, `GT/LABELS/0000000.png`."""
    save = red(raw_ids(IDS))

    def stem(place: Place) -> str:
        return f"{place.sequence * place.frames + place.t:07d}"

    return Frames(
        Usual("source", ("train",), 4, 1, (76, 128)),
        naming=stem,
        image=lambda place: f"RGB/{stem(place)}.png",
        labels=lambda place: {f"GT/LABELS/{stem(place)}.png": save},
        folders=lambda split: ("RGB", "GT"),
        all_split="train",
    )


def synthia_seq(camera: str = "Stereo_Left/Omni_F", renamed: bool = False) -> Frames:
    """One drive: `RGB/<camera>/000001.png`, `GT/LABELS/<camera>/000001.png`; renamed: `rgb/000001.png`, `label/`."""
    images, labels = ("rgb", "label") if renamed else (f"RGB/{camera}", f"GT/LABELS/{camera}")
    save = red(SEQUENCE_RAW)

    def stem(place: Place) -> str:
        return f"{place.t + 1:06d}"

    return Frames(
        Usual("source", ("train",), 1, 8, (76, 128), most=1),
        naming=stem,
        image=lambda place: f"{images}/{stem(place)}.png",
        labels=lambda place: {f"{labels}/{stem(place)}.png": save},
        folders=lambda split: (images, labels),
        all_split="train",
    )
