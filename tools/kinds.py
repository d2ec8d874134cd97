"""Kinds of run that a config file may describe: type of the config and function that composes the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from accelerate import Accelerator

from blda.build.classifier_run import classifier_run
from blda.build.image_run import image_run
from blda.build.run import Run
from blda.config.classification import ClassifyConfig
from blda.config.loading import has_key
from blda.config.schema import Config
from blda_video.build import video_run
from blda_video.config import VideoConfig

Kind = tuple[type[Config], Callable[[Config, Accelerator], Run]]
"""The type of a config, and the function that composes its run."""
ONLY_VIDEO = VideoConfig.__dataclass_fields__.keys() - Config.__dataclass_fields__.keys()
"""Keys by which a config is known as a video run's."""


def of_video(path: Path) -> Kind:
    """Return the kind for segmentation of video."""
    return VideoConfig, video_run


def of_images(path: Path) -> Kind:
    """Return the kind for segmentation of images, or for classification if the file has `classification`."""
    return (ClassifyConfig, classifier_run) if has_key(path, "classification") else (Config, image_run)


def of_run(path: Path, overrides: Sequence[str] = ()) -> Kind:
    """Return the kind for any file: video if the file or a key=value has a key that only video has."""
    replaced = {override.split("=")[0].split(".")[0] for override in overrides}
    video = any(key in replaced or has_key(path, key) for key in ONLY_VIDEO)
    return of_video(path) if video else of_images(path)
