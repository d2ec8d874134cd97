"""Predicted frames as pictures to watch: colours over the frame, a legend, and the frame itself beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blda.engine import label_pictures
from blda_video.jobs.frame_prediction import PredictedFrame

LEGENDS = ("all", "seen", "none")


@dataclass(frozen=True)
class Appearance:
    """Appearance of pictures of predicted frames.

    strength: share of the classes' colours, 0 to 1. legend: one of LEGENDS, the classes that it lists; None for all of
    them in a video, and those seen in single pictures. side_by_side: the frame stands at the left of its picture.
    """

    strength: float = 0.5
    legend: str | None = None
    side_by_side: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ValueError(f"--overlay is {self.strength:g}; give 0, the frame alone, to 1, the colours alone")

    def of_video(self, frame: PredictedFrame) -> np.ndarray:
        """Draw a frame of a video (h, w, 3) uint8; all frames of one size have pictures of one size."""
        picture, made = self._picture(frame), frame.prediction
        if self.legend == "none":
            return picture
        strip = label_pictures.fixed_legend(made.classes, made.colors, made.labels, picture.shape[1])
        if self.legend == "seen":
            own = self._seen(frame, picture.shape[1])[: len(strip)]
            strip = np.concatenate((own, np.full((len(strip) - len(own), *own.shape[1:]), 255, np.uint8)))
        return np.concatenate((picture, strip))

    def alone(self, frame: PredictedFrame) -> np.ndarray:
        """Draw a single picture (h, w, 3) uint8."""
        picture, made = self._picture(frame), frame.prediction
        if self.legend == "none":
            return picture
        width = picture.shape[1]
        every = self.legend == "all"
        strip = label_pictures.legend(made.classes, made.colors, width) if every else self._seen(frame, width)
        return np.concatenate((picture, strip))

    def _picture(self, frame: PredictedFrame) -> np.ndarray:
        made = frame.prediction
        picture = label_pictures.blended(frame.image, made.labels, made.colors, self.strength)
        return np.concatenate((frame.image, picture), 1) if self.side_by_side else picture

    def _seen(self, frame: PredictedFrame, width: int) -> np.ndarray:
        made = frame.prediction
        shown = label_pictures.seen(made.labels, num_classes=len(made.classes))
        return label_pictures.legend(made.classes, made.colors, width, shown)
