"""VIPER (Playing for Benchmarks) as downloaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from blda.data.readers.decoding import read_ids
from blda.data.readers.frames import Frame, require, scan

IDS: dict[int, str] = {
    2: "sky",
    3: "road",
    4: "sidewalk",
    6: "terrain",
    7: "vegetation",  # tree
    8: "vegetation",
    9: "building",
    11: "fence",
    13: "light",
    14: "sign",
    20: "person",
    22: "bicycle",
    23: "motorcycle",
    24: "car",
    26: "bus",
    27: "truck",
    29: "train",
}
"""Van (25) is ignored in both published maps; it shares its palette colour with train, so colours are never read."""


def frame_number(name: str) -> int:
    """Return the frame number in a name: 5 for `train/001/001_00005`."""
    return int(name.rsplit("_", 1)[1])


class Viper:
    """VIPER frames `<root>/<split>/img/001/001_00010.jpg` with `<root>/<split>/cls/001/001_00010.png` (indexed PNG).

    every: take the frames whose number is a multiple of this; 10 gives the published set, for which labels exist.
    """

    label_map: Mapping[int, str] = IDS
    ignored: Collection[int] = tuple(i for i in range(32) if i not in IDS)

    def __init__(self, root: str | Path, split: str = "train", labelled: bool = True, every: int = 10) -> None:
        self.root = Path(root)
        names = (f"{split}/{name}" for name in scan(self.root / split / "img", ".jpg"))
        self.frames = require(
            (self.frame(name, labelled) for name in names if frame_number(name) % every == 0),
            "extract the cls archives of these frames, or set every: 10",
        )
        if not self.frames:
            raise ValueError(
                f"no frame number below {self.root / split / 'img'} is a multiple of {every}; set every: 1"
            )

    def frame(self, name: str, labelled: bool) -> Frame:
        """Build the frame `<split>/<sequence>/<sequence>_<number>`."""
        split, rest = name.split("/", 1)
        label = self.root / split / "cls" / f"{rest}.png" if labelled else None
        return Frame(name, self.root / split / "img" / f"{rest}.jpg", label)

    def read_label(self, path: Path) -> np.ndarray:
        """Read the raw ids (H, W)."""
        return read_ids(path)
