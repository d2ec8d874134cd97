"""The checkpoint that a path means: the file itself, or the newest of a run's folder."""

from __future__ import annotations

from pathlib import Path

from blda.engine import checkpoint


def checkpoint_of(path: Path) -> Path:
    """Return a checkpoint's path: the file itself, or the newest of a run's folder.

    A folder may hold the checkpoints, or one folder that does (RUN for RUN/METHOD). Raises ValueError for none or
    several, FileNotFoundError for a path that does not exist.
    """
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}; give a step_*.pt or the folder of a run")
    if not path.is_dir():
        return path
    if (newest := checkpoint.latest(path)) is not None:
        return newest
    runs = {folder.name: newest for folder in sorted(path.iterdir()) if (newest := _latest_of(folder)) is not None}
    if len(runs) != 1:
        several = f"the runs {', '.join(runs)}; give one of them" if runs else "no step_*.pt; give the folder of a run"
        raise ValueError(f"{path} holds {several}")
    return next(iter(runs.values()))


def _latest_of(folder: Path) -> Path | None:
    return checkpoint.latest(folder) if folder.is_dir() else None
