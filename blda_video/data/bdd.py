"""BDDVid: BDD10k images with frames of their BDD100k videos, as extracted by UnifiedVideoDA's script."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from blda.data.cityscapes import TRAIN_IDS
from blda.data.files import read_ids
from blda.data.frames import Frame, require, scan

KEY = 307
"""The labelled image is about frame 307 of its video; frames 303 to 311 are extracted."""


class BDDVid:
    """`<root>/video_da/<split>/images/<id>_<frame>.jpg` with `labels/<id>_307.png` (trainIds).

    split: 'train' or 'val' with frame 307 of the video, 'train_orig_10k' or 'val_orig_10k' with the BDD10k image in
    its place. Published: adapt to train, evaluate on val_orig_10k.
    """

    ids: Mapping[int, str] = TRAIN_IDS
    ignored: Collection[int] = (255,)

    def __init__(self, root: str | Path, split: str = "train", labelled: bool = True) -> None:
        self.root = Path(root) / "video_da"
        keys = scan(self.root / split / "images", f"_{KEY}.jpg")
        self.frames = require(
            (self._frame(f"{split}/{key}_{KEY}", labelled) for key in keys),
            "run the unpacking of images and labels again",
        )

    def neighbour(self, frame: Frame, offset: int) -> Frame | None:
        """The frame whose number is `offset` higher, None where it was not extracted."""
        stem, number = frame.name.rsplit("_", 1)
        found = self._frame(f"{stem}_{int(number) + offset}", labelled=False)
        return found if found.image.is_file() else None

    def read_label(self, path: Path) -> np.ndarray:
        """Raw ids (H, W)."""
        return read_ids(path)

    def _frame(self, name: str, labelled: bool) -> Frame:
        split, stem = name.split("/", 1)
        label = self.root / split / "labels" / f"{stem}.png" if labelled else None
        return Frame(name, self.root / split / "images" / f"{stem}.jpg", label)
