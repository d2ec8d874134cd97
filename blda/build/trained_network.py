"""A trained network, read from a checkpoint, a run's folder, a saved folder or the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from blda.build import saved_folder
from blda.build.checkpoint_search import checkpoint_of
from blda.build.network_factory import NetworkFactory
from blda.build.network_settings import CONFIG, network_config, saved_settings
from blda.build.reader_factory import class_names
from blda.calibration.calibration_file import Calibration
from blda.config.schema import Config
from blda.engine import checkpoint


@dataclass(frozen=True)
class StoredNetwork:
    """Trained network as it was found, on the CPU.

    network: images (B, 3, H, W) in [0, 1] -> logits. config: of its network and its evaluation. settings: all keys and
    values of its run's config. weights: the file of its weights. saved: whether the file is one of `save_pretrained`.
    calibration: balances the predictions, None for as they are. steps: that trained it, None if the file does not say.
    """

    network: nn.Module
    config: Config
    settings: Mapping[str, Any]
    weights: Path
    saved: bool
    calibration: Calibration | None
    steps: int | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the logits."""
        return class_names(self.config)


def read_network(
    where: str | os.PathLike,
    calibration: str | os.PathLike | Calibration | bool | None = None,
    overrides: Sequence[str] = (),
    **prediction: Any,
) -> StoredNetwork:
    """Read a trained segmentation network; `blda.load` documents the arguments and the errors."""
    path = saved_folder.downloaded(os.fspath(where)) if saved_folder.is_id(where) else Path(where)
    saved = saved_folder.is_saved(path)
    weights = path / saved_folder.WEIGHTS if saved else checkpoint_of(path)
    settings = saved_settings(weights, overrides)
    config = network_config(settings, weights.parent / CONFIG, **prediction)
    network = _built(config)
    states = saved_folder.states(weights) if saved else checkpoint.read(weights)
    fill(network, weights, states)
    if calibration is None and saved and (path / saved_folder.CALIBRATION).is_file():
        calibration = path / saved_folder.CALIBRATION
    balance = _calibration(calibration, class_names(config))
    return StoredNetwork(network, config, settings, weights, saved, balance, states.get("trainer", {}).get("step"))


def fill(network: nn.Module, path: Path, states: Mapping[str, Any]) -> None:
    """Load the trained weights of a checkpoint that was read from `path` into a network, in place.

    Raises ValueError naming the checkpoint when it is none of a run, or fits another network.
    """
    if "student" not in states:
        raise ValueError(
            f"{path} is no checkpoint of a run (it holds {', '.join(map(str, list(states)[:3])) or 'nothing'}); "
            "convert a published network with blda import-weights"
        )
    own, found = network.state_dict(), states["student"]
    wrong = [name for name in own if name not in found or found[name].shape != own[name].shape]
    wrong += [name for name in found if name not in own]
    if wrong:
        raise ValueError(
            f"{path} does not fit the network of the {CONFIG} beside it: {len(wrong)} of its parameters are missing, "
            f"unknown or of another shape, such as {wrong[0]}; use the version of blda and the config that wrote it"
        )
    network.load_state_dict(found)


def _built(config: Config) -> nn.Module:
    """Build the network without pretrained weights; the caller's random numbers stay as they are."""
    with torch.random.fork_rng(devices=[]):
        return NetworkFactory(config).student(pretrained=False)


def _calibration(given: str | os.PathLike | Calibration | bool | None, classes: Sequence[str]) -> Calibration | None:
    if given is None or given is False or isinstance(given, Calibration):
        if given and given.classes != tuple(classes):
            raise ValueError(f"the calibration is of {len(given.classes)} other classes; make one of this network")
        return given or None
    return Calibration.load(Path(given), classes)
