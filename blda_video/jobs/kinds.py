"""Kinds of run that a config file may describe: type of the config and function that composes the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from accelerate import Accelerator

from blda.build.classifier_run import classifier_run
from blda.build.image_run import image_run
from blda.build.reader_factory import READERS as IMAGE_READERS
from blda.build.run import Run
from blda.config.classification import ClassifyConfig
from blda.config.loading import load, tree_of
from blda.config.schema import Config
from blda_video.build import READERS, video_run
from blda_video.config import VideoConfig
from blda_video.jobs import shipped_configs

Compose = Callable[[Config, Accelerator], Run]
Kind = tuple[type[Config], Compose]
"""The type of a config, and the function that composes its run."""
ONLY_VIDEO = VideoConfig.__dataclass_fields__.keys() - Config.__dataclass_fields__.keys()
"""Keys by which a config is known as a video run's."""
VIDEO_READERS = READERS.keys() - IMAGE_READERS.keys()
"""Readers whose frames have neighbours, by which a config is known as a video run's too."""


def of_video(path: Path, overrides: Sequence[str] = ()) -> Kind:
    """Return the kind for segmentation of video."""
    return VideoConfig, video_run


def of_images(path: Path, overrides: Sequence[str] = ()) -> Kind:
    """Return the kind for segmentation of images, or for classification if the config has `classification`."""
    return (ClassifyConfig, classifier_run) if "classification" in tree_of(path, overrides) else (Config, image_run)


def named(kind: str | None) -> Callable[[Path, Sequence[str]], Kind]:
    """Return the function for configs of 'images' or 'video', or for None the one that finds out."""
    return {None: of_run, "images": of_images, "video": of_video}[kind]


def loaded(config: str, overrides: Sequence[str] = (), kind: str | None = None) -> tuple[Config, Compose]:
    """Load a config as its kind of run; return it with the function that composes the run.

    config: YAML file, or the name of a shipped config. overrides: key=value, further files, names of shipped variants.
    kind: see `named`. Raises ValueError and FileNotFoundError for what a user can mend.
    """
    path, overrides = shipped_configs.found(config), shipped_configs.found_variants(overrides)
    config_type, compose = named(kind)(path, overrides)
    return load(path, config_type, overrides), compose


def of_run(path: Path, overrides: Sequence[str] = ()) -> Kind:
    """Return the kind for any config file with its overrides: video if it has a key or a reader that only video has."""
    tree = tree_of(path, overrides)
    given = [tree.get(name) for name in ("source", "target", "evaluation")]
    sections = [section for each in given for section in (each if isinstance(each, list) else [each])]
    readers = [section.get("reader") for section in sections if isinstance(section, dict)]
    names = {reader.get("name") for reader in readers if isinstance(reader, dict)}
    video = ONLY_VIDEO & tree.keys() or VIDEO_READERS & names
    return of_video(path) if video else of_images(path, overrides)
