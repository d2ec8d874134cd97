"""A run and its trained network, restored from a checkpoint and the config.yaml beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blda.build.run import Run
from blda.config.loading import load
from blda.engine import checkpoint, runtime
from blda.models.segmenter import Segmenter
from blda_video.jobs import kinds


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


def restored(path: Path, overrides: Sequence[str]) -> tuple[Run, Segmenter]:
    """Compose the run that wrote a checkpoint, and load its student's weights.

    path: a checkpoint or a folder, see `checkpoint_of`.
    """
    path = checkpoint_of(path)
    states = checkpoint.read(path)
    beside = path.parent / "config.yaml"
    kind, compose = kinds.of_run(beside, overrides)
    config = load(beside, kind, overrides)
    run = compose(config, runtime.start(config.training.precision))
    # The weights come from the checkpoint; what the encoder was initialised from need not exist here.
    student = run.networks.student(pretrained=False)
    checkpoint.restore(path, states, {"student": student})
    return run, student.to(run.accelerator.device)


def _latest_of(folder: Path) -> Path | None:
    return checkpoint.latest(folder) if folder.is_dir() else None
