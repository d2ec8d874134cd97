"""Which kind of run a config file describes: the config's type and the parts that belong to it."""

from __future__ import annotations

from pathlib import Path

from blda.build import Build
from blda.classify import ClassifyBuild, ClassifyConfig
from blda.config import Config
from blda.configfile import has_key
from blda_video.build import VideoBuild
from blda_video.config import VideoConfig

Kind = tuple[type[Config], type[Build]]


def of_video(path: Path) -> Kind:
    """Segmentation of video."""
    return VideoConfig, VideoBuild


def of_images(path: Path) -> Kind:
    """Segmentation of images, or their classification where the file has the key `classification`."""
    return (ClassifyConfig, ClassifyBuild) if has_key(path, "classification") else (Config, Build)


def of_run(path: Path) -> Kind:
    """Any of these; only video has `offsets`."""
    return of_video(path) if has_key(path, "offsets") else of_images(path)
