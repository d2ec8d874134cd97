"""Trackers of a run, from the key `log.trackers`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blda.config.schema import Config
from blda.engine import accelerate_trackers
from blda.engine.accelerate_trackers import OWN, AccelerateTracker
from blda.engine.trackers import TensorBoardTracker, Tracker


def require(config: Config) -> None:
    """Raise ValueError, with the fix, for a tracker that does not exist or is not installed."""
    for kind, _ in _entries(config):
        accelerate_trackers.require(kind)


def trackers(config: Config, folder: Path, method: str, protocol: str) -> list[Tracker]:
    """Build the trackers of a method's run; call it in the main process only.

    folder: of the method's run. protocol: name of the protocol of scores without a prefix.
    """
    settings = {**_flat(dataclasses.asdict(config)), "method": method, "protocol": protocol}
    name = f"{Path(config.run).name}/{folder.name}"
    return [
        TensorBoardTracker(folder, protocol, **keywords)
        if kind == OWN
        else AccelerateTracker(kind, name, folder, settings, keywords)
        for kind, keywords in _entries(config)
    ]


def _entries(config: Config) -> list[tuple[str, dict[str, Any]]]:
    """Return name and keywords of each tracker of the config."""
    found = []
    for entry in config.log.trackers:
        keywords = dict(entry) if isinstance(entry, Mapping) else {"name": entry}
        name = keywords.pop("name", None)
        if not isinstance(name, str):
            raise ValueError(f"log.trackers: {entry!r} names no tracker; write a name or {{name: WHICH, ...}}")
        if name == OWN and keywords:
            raise ValueError(f"log.trackers: {OWN} has no {', '.join(keywords)}; it writes into the run's folder")
        found.append((name, keywords))
    return found


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Flatten nested mappings to dotted keys; anything but a number or a text becomes its text."""
    if isinstance(value, Mapping):
        return {
            key: item
            for name, part in value.items()
            for key, item in _flat(part, f"{path}.{name}" if path else str(name)).items()
        }
    plain = value if isinstance(value, bool | int | float | str) else str(_list(value))
    return {path: plain}


def _list(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
