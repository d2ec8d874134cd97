"""VIPER as video: frames know their neighbours by number."""

from __future__ import annotations

from blda.data.frames import Frame
from blda.data.viper import Viper, frame_number


class ViperSequence(Viper):
    """VIPER with all images extracted; `every` chooses the key frames, neighbours are any frames."""

    def neighbour(self, frame: Frame, offset: int) -> Frame | None:
        """The frame whose number is `offset` higher in the same sequence, None where there is no such image."""
        stem = frame.name.rsplit("_", 1)[0]
        found = self.frame(f"{stem}_{frame_number(frame.name) + offset:05d}", labelled=False)
        return found if found.image.is_file() else None
