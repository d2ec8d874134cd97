"""Checkpoints: one strict dict of named states, written atomically, read without unpickling code."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from blda import atomic
from blda.code_version import code_version, require_same_major

IDENTITY = "identity"
"""Name in a checkpoint of what says which run and which version of the code wrote it: plain numbers and texts."""
_NAME = re.compile(r"step_\d+\.pt")


class Stateful(Protocol):
    """Object whose state survives a restart."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


def save(path: Path, objects: Mapping[str, Stateful], identity: Mapping[str, Any] | None = None) -> None:
    """Write the named states and a digest; an interruption leaves the old file or none, never half of one.

    identity: facts that identify the run, see `load`. Raises ValueError naming the checkpoint before when the disk is
    full.
    """
    states = {name: item.state_dict() for name, item in objects.items()}
    states[IDENTITY] = {**(identity or {}), **code_version()}
    try:
        atomic.write_tensors(path, states)
    except OSError as error:
        kept = latest(path.parent)
        left = f"{kept} is whole; continue it with --resume" if kept else "no checkpoint was written before"
        raise ValueError(f"cannot write {path} ({error.strerror}); make room on the disk. {left}") from error


def read(path: Path) -> dict[str, Any]:
    """Read the named states to the CPU, without the run's identity. Only tensors, numbers and strings are unpickled.

    Raises FileNotFoundError or ValueError naming the file, and the last intact checkpoint before a damaged one, or the
    versions if another major version of the code wrote it. Checkpoints of older versions do not name theirs.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the named states and the identity of the run that wrote them."""
    if not path.is_file():
        what = f"{path} is no file" if os.path.lexists(path) else f"no checkpoint at {path}"
        raise FileNotFoundError(f"{what}{_before(path)}")
    try:
        states = atomic.read_tensors(path)
    except ValueError as error:
        raise ValueError(f"{path} is damaged or no checkpoint of this library: {error}{_before(path)}") from error
    for part in states.values() if isinstance(states, dict) else [states]:
        if not isinstance(part, dict):
            found = type(part).__name__
            raise ValueError(f"{path} is no checkpoint of this library: it holds a {found}{_before(path)}")
    if not atomic.has_digest(path):
        warnings.warn(f"{path} was written by an older version and has no digest of itself", stacklevel=3)
    identity = states.pop(IDENTITY, {})
    require_same_major(path, identity)
    return states, identity


def _before(path: Path) -> str:
    """Describe the resume from the newest intact checkpoint before a damaged one, or say that there is none.

    Empty for files that are not named as checkpoints.
    """
    if not _NAME.fullmatch(path.name):
        return ""
    for other in reversed(all_of(path.parent)):
        if step_of(other) < step_of(path):
            try:
                atomic.check_digest(other)
            except ValueError:
                continue
            return f"; {other} is whole: delete {path.name}, then --resume continues at step {step_of(other)}"
    return "; no older whole checkpoint is beside it"


def load(path: Path, objects: Mapping[str, Stateful], identity: Mapping[str, Any] | None = None) -> None:
    """Restore every named object.

    identity: facts that identify the run that continues. Raises ValueError for a missing or extra name, a state of
    another shape, and a checkpoint whose identity differs under the same key. Checkpoints of older versions have no
    identity.
    """
    states, written = _read(path)
    differs = [key for key, value in (identity or {}).items() if written.get(key, value) != value]
    if differs:
        listed = ", ".join(f"{key} {written[key]}, here {identity[key]}" for key in differs)
        raise ValueError(
            f"{path} was written by another run ({listed}); resume with the config and seed that wrote it, or delete it"
        )
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
    """Return the checkpoint of the highest step in a run's folder, None if it has none."""
    return max(all_of(folder), key=step_of, default=None)


def all_of(folder: Path) -> list[Path]:
    """List the checkpoints of a run's folder by step; copies under other names do not count."""
    return sorted((path for path in folder.glob("step_*.pt") if _NAME.fullmatch(path.name)), key=step_of)


def step_of(path: Path) -> int:
    """Return the step in a checkpoint's name."""
    return int(path.stem.removeprefix("step_"))


def path_of(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint of a step."""
    return folder / f"step_{step:06d}.pt"


def keep_last(folder: Path, count: int) -> None:
    """Delete all but the newest `count` checkpoints."""
    for path in all_of(folder)[:-count]:
        path.unlink()
