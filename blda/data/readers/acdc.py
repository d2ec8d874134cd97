"""ACDC (Adverse Conditions Dataset with Correspondences) as downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blda.data.readers.cityscapes import CityscapesLabels
from blda.data.readers.decoding import read_ids
from blda.data.readers.frames import pairs, require, scan

CONDITIONS = ("fog", "night", "rain", "snow")


class ACDC:
    """`<root>/rgb_anon/<condition>/<split>/<sequence>/*_rgb_anon.png` with `<root>/gt/.../*_gt_<kind>.png`.

    split: train, val, test (its labels are withheld), or train_ref, val_ref, test_ref, the same places in clear
    weather, whose files are named `*_rgb_ref_anon.png` and `*_gt_ref_<kind>.png`.
    conditions: some of fog, night, rain, snow. kind: 'labelTrainIds' or 'labelIds', both are in the download.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        labelled: bool = True,
        conditions: Sequence[str] = CONDITIONS,
        kind: str = "labelTrainIds",
    ) -> None:
        root, ref = Path(root), "_ref" if split.endswith("_ref") else ""
        images, suffix = root / "rgb_anon", f"_rgb{ref}_anon.png"
        labels = CityscapesLabels(kind, f"gt{ref}")
        self.label_map, self.ignored = labels.label_map, labels.ignored
        parts = [f"{condition}/{split}" for condition in conditions]
        names = (f"{part}/{name}" for part in parts for name in scan(images / part, suffix))
        frames = pairs(names, (images, suffix), (root / "gt", labels.suffix) if labelled else None)
        self.frames = require(frames, "extract gt_trainval.zip; the owners keep the labels of test")
        if not self.frames:
            raise ValueError(f"conditions of {root} are empty; choose from {', '.join(CONDITIONS)}")

    def read_label(self, path: Path) -> np.ndarray:
        """Read the ids (H, W) of the chosen kind."""
        return read_ids(path)
