"""Dark Zurich as downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from blda.data.readers.cityscapes import CityscapesLabels
from blda.data.readers.decoding import read_ids
from blda.data.readers.frames import pairs, require, scan

IMAGE_SUFFIX = "_rgb_anon.png"


class DarkZurich:
    """`<root>/rgb_anon/<split>/<time>/<sequence>/*_rgb_anon.png` with `<root>/gt/<split>/<time>/.../*_gt_<kind>.png`.

    split, time: train has night, twilight and day, all unlabelled; val has night, 50 frames, the only public labels;
    val_ref/day and test_ref/day are the same places by day.
    kind: 'labelTrainIds' or 'labelIds'.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        labelled: bool = True,
        time: str = "night",
        kind: str = "labelTrainIds",
    ) -> None:
        root, part = Path(root), f"{split}/{time}"
        labels = CityscapesLabels(kind, "gt")
        self.label_map, self.ignored = labels.label_map, labels.ignored
        images = root / "rgb_anon"
        names = (f"{part}/{name}" for name in scan(images / part, IMAGE_SUFFIX))
        frames = pairs(names, (images, IMAGE_SUFFIX), (root / "gt", labels.suffix) if labelled else None)
        self.frames = require(frames, "extract Dark_Zurich_val_anon.zip; only split val, time night, has public labels")

    def read_label(self, path: Path) -> np.ndarray:
        """Read the ids (H, W) of the chosen kind."""
        return read_ids(path)
