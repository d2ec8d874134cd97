"""Loading of a trained network: from a checkpoint, a run's folder, a saved folder or the Hugging Face hub."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from blda.build.network_factory import NetworkFactory
from blda.build.reader_factory import class_names
from blda.calibration.calibration_file import Calibration
from blda.config.schema import Config
from blda.deploy import hub
from blda.deploy.checkpoint_search import checkpoint_of
from blda.deploy.network_settings import CONFIG, network_config, saved_settings
from blda.deploy.trained_segmenter import Origin, TrainedSegmenter
from blda.engine import checkpoint

RESULT = "result.json"


def load(
    where: str | os.PathLike,
    calibration: str | os.PathLike | Calibration | bool | None = None,
    overrides: Sequence[str] = (),
    **prediction: Any,
) -> TrainedSegmenter:
    """Load a trained segmentation network, on the CPU.

    where: a checkpoint (step_*.pt) beside its config.yaml, a run's folder for its newest checkpoint, a folder of
    `save_pretrained`, or "user/name" ("user/name@revision") of the Hugging Face hub. calibration: a file of
    `blda calibrate`, or a `Calibration`, that balances the predictions; None takes the one that was saved with the
    network, False none. overrides: `key=value` on top of the config, as on the command line. prediction: replaces
    `size`, `keep_ratio`, `window`, `stride`, `window_batch` or `flip` of the run's `evaluation`.

    Raises FileNotFoundError and ValueError in one line that says what is wrong, and the fix.
    """
    path = hub.downloaded(os.fspath(where)) if hub.is_id(where) else Path(where)
    saved = hub.is_saved(path)
    weights = path / hub.WEIGHTS if saved else checkpoint_of(path)
    settings = saved_settings(weights, overrides)
    config = network_config(settings, weights.parent / CONFIG, **prediction)
    network = _built(config)
    fill(network, weights, hub.states(weights) if saved else checkpoint.read(weights))
    if calibration is None and saved and (path / hub.CALIBRATION).is_file():
        calibration = path / hub.CALIBRATION
    origin = Origin(weights, settings, _scores(weights, saved))
    return TrainedSegmenter(network, config, origin, _calibration(calibration, class_names(config)))


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


def _scores(weights: Path, saved: bool) -> dict[str, Any]:
    """Return the scores of the run's end; empty for a checkpoint that is not its last, or without any."""
    path = weights.parent / RESULT
    if not path.is_file() or not (saved or weights == checkpoint.latest(weights.parent)):
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
