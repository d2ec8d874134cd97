"""The teacher of a distillation, from the config's key `self_training.teacher`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor

from blda.build.evaluation_factory import shown_as
from blda.build.network_settings import PREDICTION
from blda.build.reader_factory import class_names
from blda.build.saved_folder import CALIBRATION
from blda.build.trained_network import StoredNetwork, read_network
from blda.config.schema import Config
from blda.data.checks import digests
from blda.engine.inference import Predictor
from blda.selftraining.fixed_teacher import FixedTeacher

KEY = "self_training.teacher"


def fixed_teacher(config: Config, device: torch.device, autocast: Callable[[], AbstractContextManager]) -> FixedTeacher:
    """Build the trained network that labels the target of a run.

    It predicts as `blda.load` does, with its own windows, mirrored view and calibration, but at the size of the
    target's crops, and returns the run's classes in the run's order.

    config: of the run; its key `self_training.teacher` must be set. autocast: builds the context of mixed precision.
    Raises what `stored_teacher` does.
    """
    stored, classes = stored_teacher(config), class_names(config)
    calibration = stored.calibration and stored.calibration.to(device)
    network = stored.network.eval().requires_grad_(False).to(device)
    if config.training.channels_last:
        network.to(memory_format=torch.channels_last)
    predict = Predictor(shown_as(stored.config.evaluation, network), autocast, calibration)
    if stored.classes != classes:
        predict = _Reordered(predict, [stored.classes.index(name) for name in classes])
    return FixedTeacher(predict, str(stored.weights), _digest(stored, config.self_training.teacher.calibration))


def stored_teacher(config: Config) -> StoredNetwork:
    """Read the network that `self_training.teacher` names, on the CPU.

    Raises FileNotFoundError and ValueError that begin with the key for a network that cannot be read, was never
    trained, or knows other classes than the run.
    """
    settings = config.self_training.teacher
    try:
        stored = read_network(settings.weights, settings.calibration)
        if stored.steps == 0 and not stored.settings["model"].get("weights"):
            raise ValueError(f"{stored.weights} was saved before its first step, with random weights; train it first")
        _require_same(stored, class_names(config))
    except (FileNotFoundError, ValueError) as error:
        kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
        raise kind(f"{KEY}: {error}") from error
    return stored


def warnings_of_teacher(config: Config) -> list[str]:
    """Read the teacher once to see whether it fits, and return a line for what may be a mistake.

    Raises what `stored_teacher` does.
    """
    theirs, ours = stored_teacher(config).config.evaluation.size, config.evaluation.size
    if theirs is None or ours is None or theirs == ours:
        return []
    return [
        f"{KEY} was made for images of {theirs[0]} x {theirs[1]} (its evaluation.size), and this run shows it the "
        f"target as the student sees it, at {ours[0]} x {ours[1]}; give a teacher of that size, or change resolution"
    ]


class _Reordered:
    """A predictor whose classes come in another order."""

    def __init__(self, predict: Callable[[Tensor], Tensor], order: Sequence[int]) -> None:
        self.predict, self.order = predict, list(order)

    def __call__(self, image: Tensor) -> Tensor:
        return self.predict(image)[:, self.order]


def _require_same(stored: StoredNetwork, classes: Sequence[str]) -> None:
    """Raise ValueError unless the teacher knows exactly these classes, in any order."""
    theirs = stored.classes
    missing = ", ".join(name for name in classes if name not in theirs) or "none"
    further = ", ".join(name for name in theirs if name not in classes) or "none"
    if set(theirs) != set(classes):
        raise ValueError(
            f"{stored.weights} was trained on {len(theirs)} classes, this run has {len(classes)} (missing there: "
            f"{missing}; missing here: {further}); set the run's classes to the teacher's, or give another teacher"
        )


def _digest(stored: StoredNetwork, calibration: str | None) -> str:
    """Compute the SHA-256 of all that decides what the teacher predicts: its files, and the settings of its network."""
    files = [stored.weights]
    if stored.calibration is not None:
        files.append(stored.weights.parent / CALIBRATION if calibration is None else Path(calibration))
    settings = {key: stored.settings.get(key) for key in ("classes", "model", "resolution")}
    shown = {key: stored.settings.get("evaluation", {}).get(key) for key in PREDICTION}
    parts = [*map(digests.digest, files), json.dumps([settings, shown], sort_keys=True, default=str)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
