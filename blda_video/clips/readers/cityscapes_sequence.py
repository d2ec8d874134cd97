"""Cityscapes-Seq: the 30-frame snippets around the labelled frames."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from blda.data.readers.cityscapes import IMAGE_SUFFIX, CityscapesLabels
from blda.data.readers.decoding import read_ids
from blda.data.readers.frames import Frame, pairs, require, scan
from blda_video.clips.readers.numbered_frames import by_number

SNIPPET = 30
KEY = 19
"""A snippet has 30 consecutive frames; by construction of the data set the 20th is the labelled one."""


class CityscapesSequence:
    """`<root>/leftImg8bit_sequence/<split>/<city>/<city>_<sequence>_<frame>_leftImg8bit.png`, labels in `gtFine`.

    labelled=True: the key frames are those with a label file (evaluation, source). labelled=False: no label
    file is looked for, not even its name; `key_frames` then chooses:
    'snippet': the 20th of every 30 consecutive frames. These are the published key frames, whatever the numbers (19
        in most cities, 294 in frankfurt_000000_000294); needs complete snippets.
    'all': every frame of the folder, for partial downloads or to train on everything.
    kind: as in `Cityscapes`.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        labelled: bool = True,
        kind: str = "labelIds",
        key_frames: str = "snippet",
    ) -> None:
        if key_frames not in ("snippet", "all"):
            raise ValueError(f"unknown key_frames '{key_frames}'; use snippet or all")
        root, labels = Path(root), CityscapesLabels(kind)
        self.label_map, self.ignored = labels.label_map, labels.ignored
        images = (root / "leftImg8bit_sequence", IMAGE_SUFFIX)
        if labelled:
            fix = f"extract gtFine, or choose another kind than {kind}"
            names = scan(root / "gtFine" / split, labels.suffix, fix)
        else:
            names = scan(root / "leftImg8bit_sequence" / split, IMAGE_SUFFIX)
            names = _snippet_keys(names) if key_frames == "snippet" else names
        keys = (f"{split}/{name}" for name in names)
        frames = pairs(keys, images, (root / "gtFine", labels.suffix) if labelled else None)
        self.frames = require(frames, "extract leftImg8bit_sequence with all frames of the split")

    def neighbour(self, frame: Frame, offset: int) -> Frame | None:
        """The frame whose number is `offset` higher, None where there is no such image."""
        return by_number(frame, offset)

    def read_label(self, path: Path) -> np.ndarray:
        """Raw ids (H, W)."""
        return read_ids(path)


def _runs(names: list[str]) -> Iterator[list[str]]:
    """Group sorted names into runs of consecutive frame numbers of one sequence."""

    def run(item: tuple[int, str]) -> tuple[str, int]:
        stem, number = item[1].rsplit("_", 1)
        return stem, int(number) - item[0]

    for _, group in groupby(enumerate(names), key=run):
        yield [name for _, name in group]


def _snippet_keys(names: list[str]) -> Iterator[str]:
    for run in _runs(names):
        for start in range(0, len(run), SNIPPET):
            snippet = run[start : start + SNIPPET]
            if len(snippet) != SNIPPET:
                raise ValueError(
                    f"snippet {snippet[0]} has {len(snippet)} of {SNIPPET} frames, so its key frame is unknown; "
                    "extract all frames or set key_frames: all"
                )
            yield snippet[KEY]
