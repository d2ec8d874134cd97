"""Predictions of a trained network for the frames of a video, one after the other, fused in time or not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from blda.config.schema import Component
from blda.deploy.load import load
from blda.deploy.prediction import Prediction
from blda.deploy.trained_segmenter import TrainedSegmenter
from blda_video.build import ESTIMATORS, estimator_of
from blda_video.clips.clip_crop import Estimator
from blda_video.stream.frame_source import FrameSource, open_frame_source
from blda_video.stream.fused_stream import FusedStream

DECAY = 0.9
Flow = str | Component | Estimator
"""Estimator of flow: a name such as dis-medium, {name: raft, ...}, or a function (image, neighbour) -> flow."""


class PredictedFrame(NamedTuple):
    """One frame of a video.

    image: (H, W, 3) uint8. name: the path below its folder without suffix, or the six-digit number in a video, from 0.
    """

    image: np.ndarray
    prediction: Prediction
    name: str


class PredictedVideo(Iterator[PredictedFrame]):
    """Frames of a video that are predicted when they are asked for.

    rate: frames a second of the video, None when unknown, as of a folder.
    """

    def __init__(self, frames: Iterator[PredictedFrame], count: int, rate: float | None) -> None:
        self._frames, self._left, self.rate = frames, count, rate

    def __iter__(self) -> PredictedVideo:
        return self

    def __next__(self) -> PredictedFrame:
        frame = next(self._frames)
        self._left -= 1
        return frame

    def __len__(self) -> int:
        """Return the number of frames that are left."""
        return self._left


def predict(
    video: str | os.PathLike | FrameSource,
    segmenter: TrainedSegmenter | str | os.PathLike,
    fuse: bool = True,
    flow: Flow | None = None,
    decay: float = DECAY,
    batch: int = 1,
    wanted: Sequence[int] | None = None,
) -> PredictedVideo:
    """Predict a video frame by frame; only a few frames are in memory at any time.

    video: a video file, or a folder, each of whose folders of images is one video. segmenter: see `blda.load`, or what
    it takes. fuse: average what is predicted of a surface point over time, along the flow (`FusedStream`). flow: None
    for the estimator of the segmenter's run, else DIS. decay: weight of a frame in the next, 0 to below 1. batch:
    frames of one size that the network is given at a time, without `fuse`. wanted: numbers of the frames to predict, in
    order, None for all; with `fuse`, each hands on to the next.

    Raises ValueError and FileNotFoundError at once for arguments, and ValueError for a frame that cannot be read.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; it must be at least 1")
    if not isinstance(segmenter, TrainedSegmenter):
        segmenter = load(segmenter)
    source = video if isinstance(video, FrameSource) else open_frame_source(Path(video))
    wanted = range(len(source.frames)) if wanted is None else wanted
    if fuse:
        flow = flow_of(segmenter, flow)
        estimate = flow if callable(flow) else estimator_of("flow", flow)
        frames = _fused(source, segmenter, wanted, FusedStream(segmenter.scores, estimate, decay))
    else:
        frames = _alone(source, segmenter, wanted, batch)
    return PredictedVideo(frames, len(wanted), source.rate)


def flow_of(segmenter: TrainedSegmenter, asked: Flow | None = None) -> Flow:
    """Return the flow estimator: the one asked for, else the run's own if it estimates flow, else DIS."""
    own = segmenter.origin.settings.get("flow") or {}
    return asked or (own if own.get("name") in ESTIMATORS else "dis-medium")


def _fused(
    source: FrameSource, segmenter: TrainedSegmenter, wanted: Sequence[int], stream: FusedStream
) -> Iterator[PredictedFrame]:
    for i in wanted:
        if source.begins(i):
            stream.reset()
        image = source.frames[i].read()
        scores = stream(segmenter.seen(image).to(segmenter.device))
        yield PredictedFrame(image, segmenter.prediction(image, scores), source.frames[i].name)


def _alone(
    source: FrameSource, segmenter: TrainedSegmenter, wanted: Sequence[int], batch: int
) -> Iterator[PredictedFrame]:
    """Predict frames in batches of consecutive ones that the network sees in one size."""
    waiting: list[tuple[np.ndarray, torch.Tensor, str]] = []
    for i in wanted:
        image = source.frames[i].read()
        seen = segmenter.seen(image)
        if waiting and waiting[0][1].shape != seen.shape:
            yield from _together(segmenter, waiting)
            waiting = []
        waiting.append((image, seen, source.frames[i].name))
        if len(waiting) == batch:
            yield from _together(segmenter, waiting)
            waiting = []
    yield from _together(segmenter, waiting)


def _together(
    segmenter: TrainedSegmenter, frames: Sequence[tuple[np.ndarray, torch.Tensor, str]]
) -> Iterator[PredictedFrame]:
    if frames:
        scores = segmenter.scores(torch.cat([seen for _, seen, _ in frames]))
        for (image, _, name), own in zip(frames, scores.split(1), strict=True):
            yield PredictedFrame(image, segmenter.prediction(image, own), name)
