"""GTA5 (Playing for Data) as downloaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from blda.data.readers.cityscapes import LABEL_IDS
from blda.data.readers.decoding import read_ids
from blda.data.readers.frames import listed, pairs, require


class GTA5:
    """`<root>/images/00001.png` with `<root>/labels/00001.png`: indexed PNG, the indices are Cityscapes ids.

    Most frames are 1914 x 1052, some a few pixels smaller.
    split: 'train' is every frame, as published; another word `w` takes the names listed in `<root>/w.txt`.
    """

    label_map: Mapping[int, str] = LABEL_IDS
    ignored: Collection[int] = tuple(i for i in range(35) if i not in LABEL_IDS)

    def __init__(self, root: str | Path, split: str = "train", labelled: bool = True) -> None:
        root = Path(root)
        names = listed(root, split, root / "images", ".png")
        frames = pairs(names, (root / "images", ".png"), (root / "labels", ".png") if labelled else None)
        self.frames = require(frames, "extract all parts of the download")

    def read_label(self, path: Path) -> np.ndarray:
        """Read the raw ids (H, W)."""
        return read_ids(path)
