"""Cityscapes as downloaded: leftImg8bit and gtFine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from blda.data.files import read_ids
from blda.data.frames import Frame, require, scan
from blda.data.label_space import CITYSCAPES19

LABEL_IDS: dict[int, str] = dict(
    zip((7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33), CITYSCAPES19, strict=True)
)
"""Raw ids of Cityscapes and GTA5."""

TRAIN_IDS: dict[int, str] = dict(enumerate(CITYSCAPES19))

IMAGE_SUFFIX = "_leftImg8bit.png"


class CityscapesLabels:
    """Where the labels of a Cityscapes frame lie and what their ids mean.

    kind: 'labelIds' (as downloaded) or 'labelTrainIds' (converted by the owners' scripts).
    """

    def __init__(self, kind: str = "labelIds") -> None:
        if kind not in ("labelIds", "labelTrainIds"):
            raise ValueError(f"unknown kind of Cityscapes labels '{kind}'; use labelIds or labelTrainIds")
        self.kind = kind
        self.ids: Mapping[int, str] = LABEL_IDS if kind == "labelIds" else TRAIN_IDS
        self.ignored: Collection[int] = tuple(i for i in (*range(35), 255) if i not in self.ids)
        if kind == "labelTrainIds":
            self.ignored = (254, 255)

    @property
    def suffix(self) -> str:
        """End of a label file's name."""
        return f"_gtFine_{self.kind}.png"

    def path(self, root: Path, name: str) -> Path:
        """Label file of the frame `<split>/<city>/<city>_<sequence>_<frame>`."""
        return root / "gtFine" / f"{name}{self.suffix}"


class Cityscapes:
    """`<root>/leftImg8bit/<split>/<city>/*_leftImg8bit.png` with `<root>/gtFine/<split>/<city>/*_gtFine_<kind>.png`."""

    def __init__(self, root: str | Path, split: str = "train", labelled: bool = True, kind: str = "labelIds") -> None:
        root = Path(root)
        labels = CityscapesLabels(kind)
        self.ids = labels.ids
        self.ignored = labels.ignored
        folder = root / "leftImg8bit"
        names = [f"{split}/{name}" for name in scan(folder / split, IMAGE_SUFFIX)]
        frames = (
            Frame(name, folder / f"{name}{IMAGE_SUFFIX}", labels.path(root, name) if labelled else None)
            for name in names
        )
        self.frames = require(frames, f"extract gtFine, or choose another kind than {kind}")

    def read_label(self, path: Path) -> np.ndarray:
        """Raw ids (H, W)."""
        return read_ids(path)
