"""VIPER as video: frames know their neighbours by number."""

from __future__ import annotations

from blda.data.readers.frames import Frame
from blda.data.readers.viper import Viper
from blda_video.clips.readers.numbered_frames import by_number


class ViperSequence(Viper):
    """VIPER with all images extracted; `every` chooses the key frames, any frame can be a neighbour."""

    def neighbour(self, frame: Frame, offset: int) -> Frame | None:
        """The frame whose number is `offset` higher in the same sequence, None where there is no such image."""
        return by_number(frame, offset)
