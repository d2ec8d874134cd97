"""Predictions of a checkpoint for every frame of a video file or of folders of frames."""

import json
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from blda import atomic
from blda.data.readers.walk import IMAGE_SUFFIXES
from blda.deploy.load import load
from blda.deploy.trained_segmenter import TrainedSegmenter
from blda.engine import runtime
from blda_video.build import ESTIMATORS, estimator_of
from blda_video.flow.estimator_names import described
from blda_video.jobs.frame_prediction import DECAY, PredictedFrame, PredictedVideo, flow_of, predict
from blda_video.stream.frame_source import FrameSource, open_frame_source
from blda_video.stream.video_writer import LARGEST_RATE, is_film, save_video

ABOUT = "predictions.json"
"""In a folder of predictions: what they were made by."""


def run(given: Namespace) -> None:
    """Write the predictions of one command."""
    film = _check(given)
    decay = DECAY if given.decay is None else given.decay
    frame_source = open_frame_source(given.video)
    segmenter = load(given.checkpoint, given.calibration, given.overrides).to(runtime.start("no").device)
    flow = flow_of(segmenter, given.flow) if given.fuse else None
    how = {"segmenter": segmenter, "fuse": given.fuse, "flow": flow and estimator_of("--flow", flow), "decay": decay}
    if film:
        frames = shown(segmenter, predict(frame_source, **how))
        pictures = (np.asarray(frame.prediction.overlay(legend=False)) for frame in frames)
        save_video(given.output, pictures, given.rate or frame_source.rate or 30)
        return
    about = {
        "checkpoint": str(segmenter.origin.path.resolve()),
        "video": str(given.video.resolve()),
        "settings": [*given.overrides, *([f"calibration={given.calibration}"] if given.calibration else [])],
        "fused": f"along {described(flow, ESTIMATORS)}, decay {decay:g}" if given.fuse else "no",
        "classes": list(segmenter.classes),
    }
    into_folder(given.output, about, frame_source, how)


def _check(given: Namespace) -> bool:
    """Return whether the output is a video file; ValueError if the arguments do not fit together."""
    if files := [each for each in given.overrides if "=" not in each and Path(each).suffix.lower() in IMAGE_SUFFIXES]:
        raise ValueError(f"{files[0]} is one image more; give the folder that holds the frames, or one video file")
    film = is_film(given.output)
    if given.rate is not None and not (film and 0 < given.rate <= LARGEST_RATE):
        raise ValueError(
            f"--rate is {given.rate:g}; it must be above 0 and at most {LARGEST_RATE}, and --output a video file"
        )
    if not given.fuse and (given.flow is not None or given.decay is not None):
        raise ValueError("--flow and --decay say how frames are fused; add --fuse, or leave them out")
    return film


def into_folder(folder: Path, about: dict, frame_source: FrameSource, how: dict) -> None:
    """Write a PNG for every frame that has none yet.

    how: arguments of `predict`. Raises ValueError when the folder holds the predictions of another run or input.
    """
    if (folder / ABOUT).exists():
        found = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        other = [key for key in about if found.get(key) != about[key]]
        if other:
            raise ValueError(
                f"{folder} holds predictions of another {', '.join(other)} ({ABOUT}); give another --output"
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no {ABOUT}; give another --output")
    atomic.write(folder / ABOUT, json.dumps(about, indent=1))
    paths = [folder / f"{frame.name}.png" for frame in frame_source.frames]
    missing = [not path.exists() for path in paths]
    # What is fused needs the frames before; after the last missing one there is nothing more to do.
    last = max((i for i, misses in enumerate(missing) if misses), default=-1)
    wanted = [i for i in range(last + 1) if missing[i] or how["fuse"]]
    frames = predict(frame_source, wanted=wanted, **how)
    for i, frame in zip(wanted, shown(how["segmenter"], frames), strict=True):
        if missing[i]:
            frame.prediction.save(paths[i])


def shown(segmenter: TrainedSegmenter, frames: PredictedVideo) -> Iterator[PredictedFrame]:
    """Show a progress bar over the frames, unless the run's config has none."""
    bar = (segmenter.origin.settings.get("log") or {}).get("bar", True)
    return tqdm(frames, desc="predict", unit="frame", disable=not bar)
