"""Training of what a config describes, whatever its kind."""

from __future__ import annotations

from collections.abc import Sequence

from blda.build.training_run import train
from blda.config import loading
from blda_video.jobs import kinds, shipped_configs


def train_config(config: str, overrides: Sequence[str] = (), resume: bool = False, kind: str | None = None) -> str:
    """Train the methods of a config; return the table of classes, empty in all processes but the main one.

    config: YAML file, or the name of a shipped config. overrides: key=value, further files, names of shipped variants.
    kind: 'images' or 'video'; None finds it from the config. Raises ValueError and OSError for what a user can mend.
    """
    path, overrides = shipped_configs.found(config), shipped_configs.found_variants(overrides)
    config_type, compose = kinds.named(kind)(path, overrides)
    return train(compose, loading.load(path, config_type, overrides), resume)
