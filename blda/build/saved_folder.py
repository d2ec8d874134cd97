"""The folder that a saved network lies in, and that a repository of the Hugging Face hub is a copy of: reading it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from blda.build.network_settings import CONFIG
from blda.models.weights.hub_access import asked

WEIGHTS, CARD, RESULT, CALIBRATION = "model.safetensors", "README.md", "result.json", "calibration.pt"
FILES = [WEIGHTS, CONFIG, CARD, RESULT, CALIBRATION]
"""Files of a saved network; the last two may be missing."""
ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
"""Name of a repository of the hub, with a revision or without."""


def is_id(where: str | os.PathLike) -> bool:
    """Tell whether a text names a repository of the hub, "user/name" or "user/name@revision", and no file here."""
    if not isinstance(where, str) or Path(where).exists() or not ID.fullmatch(where):
        return False
    return not where.endswith((".pt", ".pth", ".safetensors"))


def is_saved(folder: Path) -> bool:
    """Tell whether a folder is one of `save_pretrained`."""
    return (folder / WEIGHTS).is_file()


def states(path: Path) -> dict[str, dict[str, Tensor]]:
    """Read the weights of a saved network as the states of a checkpoint; ValueError naming a damaged file."""
    try:
        return {"student": load_file(path)}
    except Exception as error:  # safetensors raises its own type
        raise ValueError(f"{path} is damaged ({' '.join(str(error).split())}); save or download it again") from error


def downloaded(name: str) -> Path:
    """Download a network of the hub, or find it in the hub's cache, and return its folder.

    Raises FileNotFoundError with the fix for a name that the hub does not have, and without a connection.
    """
    repository, _, revision = name.partition("@")

    def download(hub: Any) -> str:
        return hub.snapshot_download(repository, revision=revision or None, allow_patterns=FILES)

    folder = Path(asked(download, f"cannot load {name}: there is no such file or folder, and", repository))
    if not is_saved(folder):
        raise FileNotFoundError(f"{name} of the hub holds no {WEIGHTS}; it was not saved by blda (save_pretrained)")
    return folder
