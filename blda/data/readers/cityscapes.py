"""Cityscapes as downloaded: leftImg8bit and gtFine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from blda.data.label_map import CITYSCAPES19
from blda.data.readers.decoding import read_ids
from blda.data.readers.frames import pairs, require, scan

LABEL_IDS: dict[int, str] = dict(
    zip((7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33), CITYSCAPES19, strict=True)
)
"""Raw ids of Cityscapes and GTA5."""

TRAIN_IDS: dict[int, str] = dict(enumerate(CITYSCAPES19))

IMAGE_SUFFIX = "_leftImg8bit.png"


class CityscapesLabels:
    """Label ids of Cityscapes and of data sets that share them, and the ending of label file names.

    kind: 'labelIds' (raw ids) or 'labelTrainIds' (0 to 18; for Cityscapes itself made by the owners' scripts).
    mark: the text before the kind in a file's name.
    """

    def __init__(self, kind: str = "labelIds", mark: str = "gtFine") -> None:
        if kind not in ("labelIds", "labelTrainIds"):
            raise ValueError(f"unknown kind of Cityscapes labels '{kind}'; use labelIds or labelTrainIds")
        raw = kind == "labelIds"
        self.label_map: Mapping[int, str] = LABEL_IDS if raw else TRAIN_IDS
        self.ignored: Collection[int] = (
            tuple(i for i in (*range(35), 255) if i not in self.label_map) if raw else (254, 255)
        )
        self.suffix = f"_{mark}_{kind}.png"


class Cityscapes:
    """`<root>/leftImg8bit/<split>/<city>/*_leftImg8bit.png` with `<root>/gtFine/<split>/<city>/*_gtFine_<kind>.png`."""

    def __init__(self, root: str | Path, split: str = "train", labelled: bool = True, kind: str = "labelIds") -> None:
        root = Path(root)
        labels = CityscapesLabels(kind)
        self.label_map, self.ignored = labels.label_map, labels.ignored
        folder = root / "leftImg8bit"
        names = (f"{split}/{name}" for name in scan(folder / split, IMAGE_SUFFIX))
        frames = pairs(names, (folder, IMAGE_SUFFIX), (root / "gtFine", labels.suffix) if labelled else None)
        self.frames = require(frames, f"extract gtFine, or choose another kind than {kind}")

    def read_label(self, path: Path) -> np.ndarray:
        """Read the raw ids (H, W)."""
        return read_ids(path)
