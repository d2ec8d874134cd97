"""Predictions of a checkpoint for every frame of a video file or of folders of frames."""

from __future__ import annotations

import json
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from blda import atomic
from blda.data.readers.walk import IMAGE_SUFFIXES
from blda.deploy.load import load
from blda.deploy.trained_segmenter import TrainedSegmenter
from blda.engine import runtime
from blda.engine.class_lists import write_class_lists
from blda_video.build import ESTIMATORS, estimator_of
from blda_video.flow.estimator_names import described
from blda_video.jobs.frame_pictures import Appearance
from blda_video.jobs.frame_prediction import DECAY, PredictedFrame, PredictedVideo, flow_of, predict
from blda_video.jobs.frame_writing import OVERLAYS, RATE, write_picture
from blda_video.stream.adaptive_stream import TAU
from blda_video.stream.frame_source import FrameSource, open_frame_source
from blda_video.stream.video_writer import LARGEST_RATE, is_film, save_video

ABOUT = "predictions.json"
"""In a folder of predictions: what they were made by."""
GPU_BATCH = 4
"""Frames at a time on a GPU, unless told otherwise."""


@dataclass(frozen=True)
class Speed:
    """Speed of a command: frames predicted, seconds from the first read to the last write, and how it was done."""

    frames: int
    seconds: float
    how: str

    def __str__(self) -> str:
        if not self.frames:
            return "all frames are there already"
        rate = self.frames / self.seconds
        return f"{self.frames} frames in {self.seconds:.1f} s: {rate:.1f} frames a second ({self.how})"


def run(given: Namespace) -> Speed:
    """Write the predictions of one command."""
    film = _check(given)
    look = Appearance(0.5 if given.overlay is None else given.overlay, given.legend, given.side_by_side)
    decay = DECAY if given.decay is None else given.decay
    frame_source = open_frame_source(given.video)
    segmenter = load(given.checkpoint, given.calibration, given.overrides).to(runtime.start("no").device)
    precision = set_precision(segmenter, given.precision)
    cuda = segmenter.device.type == "cuda"
    batch = given.batch or (GPU_BATCH if cuda and not (given.fuse or given.adapt) else 1)
    tau = TAU if given.tau is None else given.tau
    flow = flow_of(segmenter, given.flow) if given.fuse else None
    how = {"segmenter": segmenter, "fuse": given.fuse, "flow": flow and estimator_of("--flow", flow), "decay": decay}
    how |= {"batch": batch, "adapt": given.adapt, "tau": tau}
    began = time.perf_counter()
    if film:
        frames = shown(segmenter, predict(frame_source, **how))
        save_video(given.output, map(look.of_video, frames), given.rate or frame_source.rate or RATE)
        count = len(frame_source.frames)
    else:
        about = {
            **_inputs(given, segmenter),
            "precision": precision,
            "fused": f"along {described(flow, ESTIMATORS)}, decay {decay:g}" if given.fuse else "no",
            "adapted": f"tau {tau:g}" if given.adapt else "no",
        }
        pictures = look if given.overlay is not None or given.side_by_side else None
        count = into_folder(given.output, about, frame_source, how, pictures)
    place = torch.cuda.get_device_name(segmenter.device) if cuda else "CPU"
    return Speed(count, time.perf_counter() - began, f"{place}, precision {precision}, batch {batch}")


def _inputs(given: Namespace, segmenter: TrainedSegmenter) -> dict[str, str | list[str]]:
    """Describe the network and the frames of a command, for the folder of its predictions."""
    return {
        "checkpoint": str(segmenter.origin.path.resolve()),
        "video": str(given.video.resolve()),
        "settings": [*given.overrides, *([f"calibration={given.calibration}"] if given.calibration else [])],
        "classes": list(segmenter.classes),
    }


def set_precision(segmenter: TrainedSegmenter, asked: str | None) -> str:
    """Set the precision of predictions, and return its name: no, bf16 or fp16.

    asked: None for the run's own; on a GPU, bf16 in place of float32.
    """
    own = segmenter.config.training.precision or "no"
    fast = segmenter.device.type == "cuda" and own == "no" and torch.cuda.is_bf16_supported()
    precision = asked or ("bf16" if fast else own)
    {"no": segmenter.float, "bf16": segmenter.bfloat16, "fp16": segmenter.half}[precision]()
    return precision


def _check(given: Namespace) -> bool:
    """Return whether the output is a video file; ValueError if the arguments do not fit together."""
    if files := [each for each in given.overrides if "=" not in each and Path(each).suffix.lower() in IMAGE_SUFFIXES]:
        raise ValueError(f"{files[0]} is one image more; give the folder that holds the frames, or one video file")
    if given.output.resolve().is_relative_to(given.video.resolve()):
        raise ValueError(f"--output {given.output} is the input {given.video} or in it; give a place outside of it")
    film = is_film(given.output)
    if given.rate is not None and not (film and 0 < given.rate <= LARGEST_RATE):
        raise ValueError(
            f"--rate is {given.rate:g}; it must be above 0 and at most {LARGEST_RATE}, and --output a video file"
        )
    if not given.fuse and (given.flow is not None or given.decay is not None):
        raise ValueError("--flow and --decay say how frames are fused; add --fuse, or leave them out")
    if given.batch is not None and (given.batch < 1 or given.fuse or given.adapt):
        raise ValueError(
            f"--batch is {given.batch}; it must be at least 1, and frames to --fuse or --adapt are taken one by one"
        )
    _check_adapt(given)
    return film


def _check_adapt(given: Namespace) -> None:
    if given.tau is not None and not (given.adapt and given.tau >= 0):
        raise ValueError(f"--tau is {given.tau:g}; it is the strength of --adapt, at least 0")
    if given.adapt and given.calibration:
        raise ValueError("--adapt and --calibration correct the same logits; give one of them")


def into_folder(folder: Path, about: dict, frame_source: FrameSource, how: dict, look: Appearance | None = None) -> int:
    """Write the files that a folder lacks: a PNG for every frame, a picture to watch if `look` is given.

    how: arguments of `predict`. Returns the number of frames predicted. Raises ValueError when the folder holds the
    predictions of another run or input.
    """
    _claim(folder, about)
    write_class_lists(folder, how["segmenter"].classes, how["segmenter"].colors)
    names = [frame.name for frame in frame_source.frames]
    paths = [(folder / f"{name}.png", look and folder / OVERLAYS / f"{name}.jpg") for name in names]
    missing = [not all(path is None or path.exists() for path in both) for both in paths]
    # What is fused or adapted needs the frames before; after the last missing one there is nothing more to do.
    last = max((i for i, misses in enumerate(missing) if misses), default=-1)
    wanted = [i for i in range(last + 1) if missing[i] or how["fuse"] or how["adapt"]]
    frames = predict(frame_source, wanted=wanted, **how)
    for i, frame in zip(wanted, shown(how["segmenter"], frames), strict=True):
        labels, picture = paths[i]
        if not labels.exists():
            frame.prediction.save(labels)
        if picture is not None and not picture.exists():
            write_picture(picture, frame, look)
    return len(wanted)


def _claim(folder: Path, about: dict) -> None:
    """Write what predictions are made by; ValueError when the folder holds others, or other files."""
    if (folder / ABOUT).exists():
        # Older versions did not write these.
        found = {"precision": about["precision"], "adapted": "no", **_about(folder / ABOUT)}
        other = [key for key in about if found.get(key) != about[key]]
        if other:
            raise ValueError(
                f"{folder} holds predictions of another {', '.join(other)} ({ABOUT}); give another --output"
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no {ABOUT}; give another --output")
    atomic.write(folder / ABOUT, json.dumps(about, indent=1))


def _about(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged; delete the folder {path.parent}, or give another --output")
    return found


def shown(segmenter: TrainedSegmenter, frames: PredictedVideo) -> Iterator[PredictedFrame]:
    """Show a progress bar over the frames, unless the run's config has none."""
    bar = (segmenter.origin.settings.get("log") or {}).get("bar", True)
    return tqdm(frames, desc="predict", unit="frame", disable=not bar)
