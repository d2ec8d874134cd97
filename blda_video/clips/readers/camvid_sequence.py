"""CamVid as video: frames know their neighbours by number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blda.data.readers.camvid import CamVid
from blda.data.readers.frames import Frame
from blda_video.clips.readers.numbered_frames import by_number


class CamVidSequence(CamVid):
    """CamVid with neighbours. Numbers count the 30 Hz recording; only 07959 to 08159 of 0016E5 has labels at 15 Hz.

    spacing: difference of the numbers from one frame to the next; 2 for the 15 Hz frames, which SegNet's copy has as
    its split val, 30 for the 1 Hz frames. A frame of the other rate has no neighbour. Other arguments as in `CamVid`.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        labelled: bool = True,
        sequences: Sequence[str] = (),
        spacing: int = 2,
    ) -> None:
        if spacing < 1:
            raise ValueError(f"spacing {spacing} of {root} must be at least 1; use 2 for the 15 Hz frames")
        super().__init__(root, split, labelled, sequences)
        self.spacing = spacing

    def neighbour(self, frame: Frame, offset: int) -> Frame | None:
        """The frame `offset` frames later, None where that number was not taken."""
        return by_number(frame, offset * self.spacing)
