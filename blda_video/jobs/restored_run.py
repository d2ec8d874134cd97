"""A run and its trained network, restored from a checkpoint and the config.yaml beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blda.build.checkpoint_search import checkpoint_of
from blda.build.run import Run
from blda.build.trained_network import fill
from blda.config.loading import load
from blda.engine import checkpoint, runtime
from blda.models.segmenter import Segmenter
from blda_video.jobs import kinds


def restored(path: Path, overrides: Sequence[str]) -> tuple[Run, Segmenter]:
    """Compose the run that wrote a checkpoint, with its data, and load its student's weights.

    path: a checkpoint or a folder, see `checkpoint_of`. A network alone is loaded by `blda.load`.
    """
    path = checkpoint_of(path)
    states = checkpoint.read(path)
    beside = path.parent / "config.yaml"
    kind, compose = kinds.of_run(beside, overrides)
    config = load(beside, kind, overrides)
    run = compose(config, runtime.start(config.training.precision))
    # The weights come from the checkpoint; what the encoder was initialised from need not exist here.
    student = run.networks.student(pretrained=False)
    fill(student, path, states)
    return run, student.to(run.accelerator.device)
