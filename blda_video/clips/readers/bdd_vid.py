"""BDDVid: BDD10k images with frames of their BDD100k videos, as extracted by UnifiedVideoDA's script."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from blda.data.readers.cityscapes import TRAIN_IDS
from blda.data.readers.decoding import read_ids
from blda.data.readers.frames import Frame, pairs, require, scan
from blda_video.clips.readers.numbered_frames import by_number

KEY = 307
"""The labelled image is about frame 307 of its video; frames 303 to 311 are extracted."""


class BDDVid:
    """`<root>/video_da/<split>/images/<id>_<frame>.jpg` with `labels/<id>_307.png` (trainIds).

    split: 'train' or 'val' with frame 307 of the video, 'train_orig_10k' or 'val_orig_10k' with the BDD10k image in
    its place. ExternalCheckpoint: adapt to train, evaluate on val_orig_10k.
    """

    label_map: Mapping[int, str] = TRAIN_IDS
    ignored: Collection[int] = (255,)

    def __init__(self, root: str | Path, split: str = "train", labelled: bool = True) -> None:
        folder = Path(root) / "video_da"
        keys = scan(folder / split / "images", f"_{KEY}.jpg")
        images, labels = (folder / split / "images", ".jpg"), (folder / split / "labels", ".png")
        frames = pairs((f"{key}_{KEY}" for key in keys), images, labels if labelled else None)
        named = (replace(frame, name=f"{split}/{frame.name}") for frame in frames)
        self.frames = require(named, "run the unpacking of images and labels again")

    def neighbour(self, frame: Frame, offset: int) -> Frame | None:
        """The frame whose number is `offset` higher, None where it was not extracted."""
        return by_number(frame, offset)

    def read_label(self, path: Path) -> np.ndarray:
        """Raw ids (H, W)."""
        return read_ids(path)
