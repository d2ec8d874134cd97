"""Training of what a config describes, whatever its kind."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from blda.build import training_run
from blda_video.jobs import kinds


def train(
    config: str | os.PathLike, *variants: str | os.PathLike, resume: bool = False, **overrides: Any
) -> dict[str, dict[str, float]]:
    """Train the methods of a config; return method -> its scores by name, such as mIoU and iou/road.

    config: YAML file, or the name of a shipped config. variants: further files or names on top of it, such as "mic".
    resume: continue a stopped run, and take the results of methods that are finished. overrides: values of keys;
    `training={"steps": 100}` replaces one key of a section, as `**{"training.steps": 100}` does.

    A method that a signal stopped has no scores. Raises ValueError and OSError for what a user can mend.
    """
    given = [*map(os.fspath, variants), *(as_override(key, value) for key, value in overrides.items())]
    return _trained(os.fspath(config), given, resume).scores


def train_config(config: str, overrides: Sequence[str] = (), resume: bool = False, kind: str | None = None) -> str:
    """Train the methods of a config; return the table of classes, empty in all processes but the main one.

    config: YAML file, or the name of a shipped config. overrides: key=value, further files, names of shipped variants.
    kind: 'images' or 'video'; None finds it from the config. Raises ValueError and OSError for what a user can mend.
    """
    return _trained(config, overrides, resume, kind).table


def as_override(key: str, value: Any) -> str:
    """Write a key and its value as the command line takes them; JSON is YAML."""
    return f"{key}={json.dumps(value, default=os.fspath, ensure_ascii=False)}"


def _trained(config: str, overrides: Sequence[str], resume: bool, kind: str | None = None) -> training_run.Trained:
    loaded, compose = kinds.loaded(config, overrides, kind)
    return training_run.train(compose, loaded, resume)
