"""Predictions of a trained network for the frames of a video, one after the other, fused in time or not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from blda.balance.logit_statistics import LogitStatistics
from blda.config.data_schema import Component
from blda.deploy.load import load
from blda.deploy.prediction import Prediction
from blda.deploy.trained_segmenter import TrainedSegmenter
from blda.engine import checkpoint
from blda_video.build import ESTIMATORS, estimator_of
from blda_video.clips.clip_crop import Estimator
from blda_video.stream.adaptive_stream import TAU, AdaptiveStream
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
    adapt: bool = False,
    tau: float = TAU,
) -> PredictedVideo:
    """Predict a video frame by frame; only a few frames are in memory at any time.

    video: a video file, or a folder, each of whose folders of images is one video. segmenter: see `blda.load`, or what
    it takes. fuse: average what is predicted of a surface point over time, along the flow (`FusedStream`). flow: None
    for the estimator of the segmenter's run, else DIS. decay: weight of a frame in the next, 0 to below 1. batch:
    frames of one size that the network is given at a time, without `fuse` and `adapt`. wanted: numbers of the frames to
    predict, in order, None for all; with `fuse` or `adapt`, each hands on to the next. adapt: balance each frame by
    statistics that follow the video (`AdaptiveStream`), with strength `tau`; needs a checkpoint of the method blda.

    Raises ValueError and FileNotFoundError at once for arguments, and ValueError for a frame that cannot be read.
    """
    if batch < 1:
        raise ValueError(f"batch is {batch}; it must be at least 1")
    if not isinstance(segmenter, TrainedSegmenter):
        segmenter = load(segmenter)
    source = video if isinstance(video, FrameSource) else open_frame_source(Path(video))
    wanted = range(len(source.frames)) if wanted is None else wanted
    streams: list[AdaptiveStream | FusedStream] = [adaptive_stream(segmenter, tau)] if adapt else []
    if fuse:
        flow = flow_of(segmenter, flow)
        estimate = flow if callable(flow) else estimator_of("flow", flow)
        streams.append(FusedStream(streams[-1] if streams else segmenter.scores, estimate, decay))
    frames = _streamed(source, segmenter, wanted, streams) if streams else _alone(source, segmenter, wanted, batch)
    return PredictedVideo(frames, len(wanted), source.rate)


def flow_of(segmenter: TrainedSegmenter, asked: Flow | None = None) -> Flow:
    """Return the flow estimator: the one asked for, else the run's own if it estimates flow, else DIS."""
    own = segmenter.origin.settings.get("flow") or {}
    return asked or (own if own.get("name") in ESTIMATORS else "dis-medium")


def adaptive_stream(segmenter: TrainedSegmenter, tau: float = TAU) -> AdaptiveStream:
    """Build the stream that balances a segmenter's predictions by the statistics its training saved.

    Raises ValueError if the segmenter is calibrated already, or its checkpoint holds no statistics.
    """
    path = segmenter.origin.path
    if segmenter.calibration is not None:
        raise ValueError("adaptation and a calibration correct the same logits; give one of --adapt and --calibration")
    states = checkpoint.read(path) if path.suffix == ".pt" else {}
    source, target = (_statistics(states, f"{domain}_statistics", path) for domain in ("source", "target"))
    return AdaptiveStream(segmenter.scores, source.to(segmenter.device), target.to(segmenter.device), tau)


def _statistics(states: Mapping[str, Any], name: str, path: Path) -> LogitStatistics:
    if name not in states:
        raise ValueError(f"{path} holds no '{name}'; --adapt needs a checkpoint (step_*.pt) of the method blda")
    num_classes, _, components = states[name]["means"].shape
    statistics = LogitStatistics(num_classes, components)
    checkpoint.restore(path, states, {name: statistics})
    return statistics


def _streamed(
    source: FrameSource,
    segmenter: TrainedSegmenter,
    wanted: Sequence[int],
    streams: Sequence[AdaptiveStream | FusedStream],
) -> Iterator[PredictedFrame]:
    """Predict frames in order by the last of `streams`, each of which predicts by the one before it."""
    for i in wanted:
        if source.begins(i):
            for stream in streams:
                stream.reset()
        image = source.frames[i].read()
        scores = streams[-1](segmenter.seen(image).to(segmenter.device))
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
