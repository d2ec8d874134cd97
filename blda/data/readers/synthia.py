"""SYNTHIA-RAND-CITYSCAPES as downloaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from blda.data.readers.decoding import read_red_ids
from blda.data.readers.frames import listed, pairs, require

IDS: dict[int, str] = {
    1: "sky",
    2: "building",
    3: "road",
    4: "sidewalk",
    5: "fence",
    6: "vegetation",
    7: "pole",
    8: "car",
    9: "sign",
    10: "person",
    11: "bicycle",
    12: "motorcycle",
    15: "light",
    16: "terrain",
    17: "rider",
    18: "truck",
    19: "bus",
    20: "train",
    21: "wall",
}
"""Terrain, truck and train are defined but do not occur."""


class Synthia:
    """`<root>/RGB/0000000.png` with `<root>/GT/LABELS/0000000.png`: 16-bit colour PNG, the class id is in red.

    split: 'train' is every frame, as published; another word `w` takes the names listed in `<root>/w.txt`.
    """

    label_map: Mapping[int, str] = IDS
    ignored: Collection[int] = (0, 13, 14, 22)

    def __init__(self, root: str | Path, split: str = "train", labelled: bool = True) -> None:
        root = Path(root)
        names = listed(root, split, root / "RGB", ".png")
        frames = pairs(names, (root / "RGB", ".png"), (root / "GT" / "LABELS", ".png") if labelled else None)
        self.frames = require(frames, "extract RGB and GT of the download")

    def read_label(self, path: Path) -> np.ndarray:
        """Read the raw ids (H, W)."""
        return read_red_ids(path)
