"""Checkpoints: one strict dict of named states, written atomically, read without unpickling code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from blda import atomic


class Stateful(Protocol):
    """Anything that survives a restart."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


def save(path: Path, objects: Mapping[str, Stateful]) -> None:
    """Write the named states; an interruption leaves the old file or none, never half of one."""
    states = {name: item.state_dict() for name, item in objects.items()}
    atomic.write(path, lambda file: torch.save(states, file))


def read(path: Path) -> dict[str, Any]:
    """The named states, on the CPU. Tensors, numbers and texts only are unpickled.

    Raises FileNotFoundError or ValueError naming the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        states = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is damaged or no checkpoint of this library: {reason}") from error
    if not isinstance(states, dict):
        raise ValueError(f"{path} is no checkpoint of this library: it holds a {type(states).__name__}")
    return states


def load(path: Path, objects: Mapping[str, Stateful]) -> None:
    """Restore every named object. A missing or extra name, and a state of another shape, are a ValueError."""
    states = read(path)
    missing, extra = sorted(objects.keys() - states.keys()), sorted(states.keys() - objects.keys())
    if missing or extra:
        raise ValueError(
            f"{path} is of another method: missing {missing or 'nothing'}, not wanted {extra or 'nothing'}; "
            "resume with the config that wrote it"
        )
    restore(path, states, objects)


def restore(path: Path, states: Mapping[str, Any], objects: Mapping[str, Stateful]) -> None:
    """Restore some objects from states that were read from `path`; ValueError naming the one that does not fit."""
    for name, item in objects.items():
        if name not in states:
            raise ValueError(f"{path} holds no '{name}', only {sorted(states)}")
        try:
            item.load_state_dict(states[name])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(f"{path}: '{name}' does not fit: {' '.join(str(error).split())}") from error


def latest(folder: Path) -> Path | None:
    """The checkpoint of the highest step in a run's folder."""
    return max(folder.glob("step_*.pt"), key=step_of, default=None)


def step_of(path: Path) -> int:
    """Step in a checkpoint's name."""
    return int(path.stem.removeprefix("step_"))


def path_of(folder: Path, step: int) -> Path:
    """Name of the checkpoint of a step."""
    return folder / f"step_{step:06d}.pt"


def keep_last(folder: Path, count: int) -> None:
    """Delete all but the newest `count` checkpoints."""
    for path in sorted(folder.glob("step_*.pt"), key=step_of)[:-count]:
        path.unlink()
