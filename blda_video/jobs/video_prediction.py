"""Predictions of a checkpoint for every frame of a video file or of folders of frames."""

import json
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from blda import atomic
from blda.build.run import Run
from blda.calibration.calibration_file import Calibration
from blda.config.schema import Component
from blda.data.readers.walk import IMAGE_SUFFIXES
from blda.data.segmentation_dataset import image_tensor
from blda.data.transforms import whole
from blda_video.build import ESTIMATORS, estimator_of
from blda_video.flow.estimator_names import described
from blda_video.jobs.restored_run import checkpoint_of, restored
from blda_video.stream.frame_source import FrameSource, open_frame_source
from blda_video.stream.fused_stream import FusedStream
from blda_video.stream.video_writer import LARGEST_RATE, is_film, overlay, save_video, write_labels

ABOUT = "predictions.json"
"""In a folder of predictions: what they were made by."""
DECAY = 0.9


def run(given: Namespace) -> None:
    """Write the predictions of one command."""
    film = _check(given)
    decay = DECAY if given.decay is None else given.decay
    frame_source = open_frame_source(given.video)
    run, student = restored(given.checkpoint, given.overrides)
    balance = given.calibration and Calibration.load(given.calibration, run.class_names).to(run.accelerator.device)
    predict = run.evaluation.predictor(student, balance)
    flow = flow_of(run, given.flow) if given.fuse else None
    stream = FusedStream(predict, estimator_of("--flow", flow), decay) if given.fuse else predict
    if film:
        shown = (
            overlay(image, labels, len(run.class_names)) for _, image, labels in labelled(run, frame_source, stream)
        )
        save_video(given.output, shown, given.rate or frame_source.rate or 30)
        return
    about = {
        "checkpoint": str(checkpoint_of(given.checkpoint).resolve()),
        "video": str(given.video.resolve()),
        "settings": [*given.overrides, *([f"calibration={given.calibration}"] if given.calibration else [])],
        "fused": f"along {described(flow, ESTIMATORS)}, decay {decay:g}" if given.fuse else "no",
        "classes": list(run.class_names),
    }
    into_folder(given.output, about, run, frame_source, stream)


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


def into_folder(
    folder: Path, about: dict, run: Run, frame_source: FrameSource, stream: Callable[[Tensor], Tensor]
) -> None:
    """Write a PNG for every frame that has none yet.

    Raises ValueError when the folder holds the predictions of another run or input.
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
    wanted = [i for i in range(last + 1) if missing[i] or isinstance(stream, FusedStream)]
    for i, _, labels in labelled(run, frame_source, stream, wanted):
        if missing[i]:
            write_labels(paths[i], labels, len(run.class_names))


def labelled(
    run: Run, frame_source: FrameSource, stream: Callable[[Tensor], Tensor], wanted: list[int] | None = None
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield number, image (H, W, 3) uint8 and class indices (H, W) uint8 of the wanted frames, with a progress bar."""
    wanted = range(len(frame_source.frames)) if wanted is None else wanted
    for i in tqdm(wanted, desc="predict", unit="frame", disable=not run.config.log.bar):
        if isinstance(stream, FusedStream) and frame_source.begins(i):
            stream.reset()
        image = frame_source.frames[i].read()
        seen = whole(run.data.readers.resize("evaluation")(image.shape[:2])).image(image)
        scores = stream(image_tensor(seen).to(run.accelerator.device))
        if scores.ndim != 4:
            raise ValueError("this run classifies whole images; give the checkpoint of one that segments them")
        if scores.shape[-2:] != image.shape[:2]:
            scores = F.interpolate(scores, image.shape[:2], mode="bilinear", align_corners=False)
        yield i, image, scores.argmax(1)[0].byte().cpu().numpy()


def flow_of(run: Run, asked: str | None) -> str | Component:
    """Return the flow estimator: the one asked for, else the run's own if it estimates flow, else DIS."""
    own = getattr(run.config, "flow", {})
    return asked or (own if own.get("name") in ESTIMATORS else "dis-medium")
