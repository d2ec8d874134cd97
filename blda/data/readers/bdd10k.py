"""BDD10k (the 10k images of BDD100k with their semantic labels) as downloaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from blda.data.readers.cityscapes import TRAIN_IDS
from blda.data.readers.decoding import read_ids
from blda.data.readers.frames import pairs, require, scan


class BDD10k:
    """`<root>/images/10k/<split>/*.jpg` with `<root>/labels/sem_seg/masks/<split>/*.png` (trainIds).

    root: the folder `bdd100k` of the archives. split: train or val; test has no public labels.
    """

    label_map: Mapping[int, str] = TRAIN_IDS
    ignored: Collection[int] = (255,)

    def __init__(self, root: str | Path, split: str = "train", labelled: bool = True) -> None:
        images = Path(root) / "images" / "10k"
        labels = Path(root) / "labels" / "sem_seg" / "masks"
        names = (f"{split}/{name}" for name in scan(images / split, ".jpg"))
        frames = pairs(names, (images, ".jpg"), (labels, ".png") if labelled else None)
        self.frames = require(frames, "extract bdd100k_sem_seg_labels_trainval.zip beside the images")

    def read_label(self, path: Path) -> np.ndarray:
        """Read the trainIds (H, W)."""
        return read_ids(path)
