"""Saving trained networks to a folder, and pushing them to the Hugging Face hub; `saved_folder` reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
import yaml
from safetensors.torch import save

from blda import atomic
from blda.build.network_settings import CONFIG
from blda.build.saved_folder import CALIBRATION, CARD, ID, RESULT, WEIGHTS
from blda.deploy.model_card import model_card
from blda.models.weights.hub_access import asked

if TYPE_CHECKING:
    from blda.deploy.trained_segmenter import TrainedSegmenter


def save_pretrained(
    segmenter: TrainedSegmenter, folder: str | os.PathLike, command: str | None = None, name: str = "USER/NAME"
) -> Path:
    """Write a network to a folder: weights, config, model card, scores and calibration; see `TrainedSegmenter`.

    name: of the repository that it will be, for the model card. Absolute paths in the config are shortened to their
    last name, because strangers will read it.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give the name of a folder")
    tensors = {
        key: tensor.cpu().clone(memory_format=torch.contiguous_format)
        for key, tensor in segmenter.network.state_dict().items()
    }
    content = save(tensors, {"format": "pt"})
    atomic.write(folder / WEIGHTS, lambda file: file.write(content))
    atomic.write(folder / CONFIG, yaml.safe_dump(portable(dict(segmenter.origin.settings)), sort_keys=False))
    atomic.write(folder / CARD, model_card(segmenter, name, command))
    _write_or_remove(folder / RESULT, bool(segmenter.origin.scores), lambda path: _write_scores(segmenter, path))
    _write_or_remove(folder / CALIBRATION, segmenter.calibration is not None, lambda p: segmenter.calibration.save(p))
    return folder


def push_to_hub(segmenter: TrainedSegmenter, name: str, private: bool | None = None, command: str | None = None) -> str:
    """Upload a network to the hub as "user/name", and return its address; see `TrainedSegmenter`."""
    if not ID.fullmatch(name) or "@" in name:
        raise ValueError(f"'{name}' is no name of a repository; give user/name")

    def push(hub: Any) -> str:
        api = hub.HfApi()
        with TemporaryDirectory() as folder:
            save_pretrained(segmenter, folder, command, name)
            address = api.create_repo(name, private=private, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=folder, commit_message="Upload a network of blda")
        return str(address)

    return asked(push, f"cannot push {name}:", name)


def portable(value: Any) -> Any:
    """Replace absolute paths anywhere in plain keys and values by their last name."""
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    return PurePath(value).name if isinstance(value, str) and PurePath(value).is_absolute() else value


def _write_or_remove(path: Path, wanted: bool, write: Callable[[Path], object]) -> None:
    """Write a file, or remove the one that an earlier save has left."""
    if wanted:
        write(path)
    else:
        path.unlink(missing_ok=True)


def _write_scores(segmenter: TrainedSegmenter, path: Path) -> None:
    atomic.write(path, json.dumps(dict(segmenter.origin.scores), indent=1))
