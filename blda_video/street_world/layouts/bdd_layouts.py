"""BDD100k: stills with labels, videos, and the frames that UnifiedVideoDA extracts of them."""

from __future__ import annotations

import zlib
from dataclasses import replace

from blda.data.readers.cityscapes import TRAIN_IDS
from blda_video.clips.readers.bdd100k import LABELLED
from blda_video.clips.readers.bdd_vid import KEY
from blda_video.street_world.layouts.encode import RATE, grey, raw_ids
from blda_video.street_world.layouts.layout import Frames, Place, Usual, every
from blda_video.street_world.layouts.video_layouts import Videos

BEFORE = 4
"""Frames before the labelled one in BDDVid; as many follow."""
SEEN = 10
"""Frame of a drive at which its video is `LABELLED` seconds old."""


def name(place: Place) -> str:
    """The id of a video, the same in all copies of a split: 0a0a0b1a-7c39d841."""
    drive = f"{place.split.removesuffix('_orig_10k')}/{place.sequence}"
    return f"{zlib.crc32(drive.encode()):08x}-{zlib.crc32(drive[::-1].encode()):08x}"


def bdd10k() -> Frames:
    """`images/10k/<split>/<id>.jpg`, `labels/sem_seg/masks/<split>/<id>.png`: one still of every drive."""
    masks, save = "labels/sem_seg/masks", grey(raw_ids(TRAIN_IDS))
    return Frames(
        Usual("target", ("train", "val"), 3, 1, (72, 128), most_frames=1),
        naming=lambda place: f"{place.split}/{name(place)}",
        image=lambda place: f"images/10k/{place.split}/{name(place)}.jpg",
        labels=lambda place: {f"{masks}/{place.split}/{name(place)}.png": save},
        folders=lambda split: (f"images/10k/{split}", f"{masks}/{split}"),
    )


def bdd_vid() -> Frames:
    """`video_da/<split>/images/<id>_<frame>.jpg`, frames 303 to 311, `video_da/<split>/labels/<id>_307.png`."""
    save = grey(raw_ids(TRAIN_IDS))

    def stem(place: Place) -> str:
        return f"{name(place)}_{KEY - BEFORE + place.t}"

    return Frames(
        Usual("target", ("train", "val_orig_10k"), 3, 2 * BEFORE + 1, (72, 128)),
        naming=lambda place: f"{place.split}/{stem(place)}",
        image=lambda place: f"video_da/{place.split}/images/{stem(place)}.jpg",
        labels=lambda place: {f"video_da/{place.split}/labels/{stem(place)}.png": save},
        folders=lambda split: (f"video_da/{split}",),
        labelled=every(2 * BEFORE + 1, first=BEFORE),
        published=every(2 * BEFORE + 1, first=BEFORE),
    )


def bdd100k() -> Videos:
    """BDD10k with `videos/<split>/<id>.mov`: the car stands still, sets off, and reaches the place of the labelled
    still at 10 s.
    """
    stills = bdd10k()
    return Videos(
        replace(stills.usual, frames=2 * SEEN, most_frames=999),
        naming=stills.naming,
        video=lambda place: f"videos/{place.split}/{name(place)}.mov",
        folders=lambda split: (*stills.folders(split), f"videos/{split}"),
        still=round(LABELLED * RATE) - SEEN,
        stills=stills,
        published=every(2 * SEEN, first=SEEN),
    )
