"""SYNTHIA-SEQS-04-DAWN: one drive at 5 Hz, as downloaded or as renamed by the DA-VSN family."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from blda.data.readers.decoding import read_red_ids
from blda.data.readers.frames import Frame, listed, pairs, require
from blda_video.clips.readers.numbered_frames import by_number

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
    12: "lane marking",
    15: "light",
}
"""By the owners' readme. The two published maps agree on all of them: both take 11, the readme's bicycle, for rider
(`rename: {bicycle: rider}`) and ignore lane markings (`{lane marking: road}` would not). They differ in the run's
classes alone: UnifiedVideoDA trains `cityscapes19`; DA-VSN, TPS, CMOM and UDASS train `synthia_seq12`."""


class SynthiaSequence:
    """`<root>/RGB/<camera>/000001.png` with `<root>/GT/LABELS/<camera>/000001.png`, or `rgb/` with `label/`.

    Labels are 16-bit colour PNG, the class id is in red. The second layout is taken where there is no `RGB/<camera>`.
    split: 'train' is every frame, as published; another word `w` takes the names listed in `<root>/w.txt`.
    camera: one of `Stereo_{Left,Right}/Omni_{F,B,L,R}`; published is the left one that looks forward.
    """

    label_map: Mapping[int, str] = IDS
    ignored: Collection[int] = (0, 13, 14)

    def __init__(
        self, root: str | Path, split: str = "train", labelled: bool = True, camera: str = "Stereo_Left/Omni_F"
    ) -> None:
        root = Path(root)
        images, labels = root / "RGB" / camera, root / "GT" / "LABELS" / camera
        if not images.is_dir() and (root / "rgb").is_dir():
            images, labels = root / "rgb", root / "label"
        frames = pairs(listed(root, split, images, ".png"), (images, ".png"), (labels, ".png") if labelled else None)
        self.frames = require(frames, "extract RGB and GT of the download")

    def neighbour(self, frame: Frame, offset: int) -> Frame | None:
        """The frame whose number is `offset` higher, None past the ends of the drive."""
        return by_number(frame, offset)

    def read_label(self, path: Path) -> np.ndarray:
        """Raw ids (H, W)."""
        return read_red_ids(path)
