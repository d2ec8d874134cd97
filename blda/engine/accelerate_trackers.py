"""Accelerate's trackers, Weights & Biases, MLflow, Aim and others, as trackers of a run."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers
from torch import Tensor

from blda import atomic
from blda.engine.foreign_errors import last_line
from blda.spelling import nearest

_LOG = logging.getLogger(__name__)
IDENTITIES = "trackers.json"
"""In a run's folder: the names under which services know the run, so that `--resume` continues there."""
OWN = "tensorboard"
"""Accelerate's tracker in whose place stands blda/engine/trackers.py: `TensorBoardTracker`."""
PROJECT = "blda"

Show = Callable[[GeneralTracker, int, Mapping[str, np.ndarray]], None]


@dataclass(frozen=True)
class Service:
    """Keywords and calls in which trackers differ.

    begin: (run's name, its folder) -> keywords of a new run. identity: started tracker -> the run's name there.
    again: that name -> keywords that continue the run. show: logs images (H, W, 3) uint8; None for Accelerate's own
    `log_images`, if the tracker has one.
    """

    begin: Callable[[str, Path], dict[str, Any]] = lambda name, folder: {}
    identity: Callable[[GeneralTracker], str | None] = lambda tracker: None
    again: Callable[[str], dict[str, Any]] = lambda identity: {}
    show: Show | None = None


def _lists(tracker: GeneralTracker, step: int, images: Mapping[str, np.ndarray]) -> None:
    tracker.log_images({name: [image] for name, image in images.items()}, step=step)


def _single(tracker: GeneralTracker, step: int, images: Mapping[str, np.ndarray]) -> None:
    # Aim's encoder asks for Pillow's images.
    from PIL import Image

    tracker.log_images({name: Image.fromarray(image) for name, image in images.items()}, step=step)


def _mlflow(tracker: GeneralTracker, step: int, images: Mapping[str, np.ndarray]) -> None:
    import mlflow

    for name, image in images.items():
        mlflow.log_image(image, key=name, step=step)


def _trackio(tracker: GeneralTracker, step: int, images: Mapping[str, np.ndarray]) -> None:
    import trackio

    tracker.log({name: trackio.Image(image) for name, image in images.items()}, step=step)


SERVICES = {
    "wandb": Service(
        lambda name, folder: {"name": name, "dir": str(folder)},
        lambda tracker: tracker.run.id,
        lambda identity: {"id": identity, "resume": "allow"},
    ),
    "mlflow": Service(
        lambda name, folder: {"run_name": name},
        lambda tracker: tracker.active_run.info.run_id,
        lambda identity: {"run_id": identity},
        _mlflow,
    ),
    "aim": Service(
        lambda name, folder: {},
        lambda tracker: tracker.writer.hash,
        lambda identity: {"run_hash": identity},
        _single,
    ),
    "trackio": Service(
        lambda name, folder: {"name": name},
        lambda tracker: tracker.run.name,
        lambda identity: {"name": identity, "resume": "allow"},
        _trackio,
    ),
    "clearml": Service(lambda name, folder: {"task_name": name}, show=_single),
}
"""Trackers whose runs get a name and continue; all others of Accelerate begin a new run and have their own defaults."""


class AccelerateTracker:
    """Tracker of a run by one of Accelerate's tracker classes.

    A service that fails while the run goes on costs its own numbers only: the first failure is a warning.

    kind: name of the class, such as wandb. name: of the run. folder: of the run. settings: keys and values of its
    config, for the service's table. keywords: of the service's own constructor; `project` names the project.

    Raises ValueError naming the package for a service that is not installed.
    """

    def __init__(
        self, kind: str, name: str, folder: Path, settings: Mapping[str, Any], keywords: Mapping[str, Any]
    ) -> None:
        require(kind)
        self.kind, self.name, self.folder, self.settings = kind, name, folder, settings
        self.keywords, self.service = dict(keywords), SERVICES.get(kind, Service())
        self._tracker: GeneralTracker | None = None
        self._failed = False

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        if values:
            values = {_name(name): float(value) for name, value in values.items()}
            self._attempt(lambda tracker: tracker.log(values, step=step))

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        show = self.service.show or (_lists if hasattr(LOGGER_TYPE_TO_CLASS[self.kind], "log_images") else None)
        if pictures and show:
            images = {_name(name): picture.permute(1, 2, 0).cpu().numpy() for name, picture in pictures.items()}
            self._attempt(lambda tracker: show(tracker, step, images))

    def resume(self, step: int) -> None:
        """Start the service's run, or continue the one that the folder names when `step` is not 0."""
        known = _identities(self.folder) if step else {}
        self._start(known.get(self.kind))

    def close(self) -> None:
        if self._tracker is not None:
            self._attempt(lambda tracker: tracker.finish())
            self._tracker = None

    def _start(self, identity: str | None) -> None:
        keywords = dict(self.keywords)
        project = keywords.pop("project", PROJECT)
        keywords = {**self.service.begin(self.name, self.folder), **keywords}
        if identity is not None:
            keywords.update(self.service.again(identity))
        cls = LOGGER_TYPE_TO_CLASS[self.kind]
        if cls.requires_logging_directory:  # such a service has no projects; its first argument is the run's name
            project = self.name
            keywords.setdefault("logging_dir", str(self.folder.parent))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            tracker = cls(project, **keywords)
            if hasattr(tracker, "start"):  # older versions of Accelerate start in the constructor
                tracker.start()
            if identity is None:
                tracker.store_init_configuration(dict(self.settings))
        except Exception as error:  # of the service, which may raise anything
            raise ValueError(
                f"log.trackers: {self.kind} does not start ({type(error).__name__}: {last_line(error)}); mend that, or "
                "take it out of log.trackers"
            ) from error
        self._tracker = tracker
        if (own := self.service.identity(tracker)) is not None:
            atomic.write(self.folder / IDENTITIES, json.dumps({**_identities(self.folder), self.kind: own}))

    def _attempt(self, act: Callable[[GeneralTracker], object]) -> None:
        if self._tracker is None:
            self._start(None)
        try:
            act(self._tracker)
        except Exception as error:  # of the service or the network
            if not self._failed:
                _LOG.warning(
                    "%s fails (%s: %s); the run goes on, metrics.jsonl has all numbers",
                    *(self.kind, type(error).__name__, last_line(error)),
                )
            self._failed = True


def kinds() -> list[str]:
    """Return the names that `log.trackers` may hold."""
    return list(dict.fromkeys((OWN, *map(str, LOGGER_TYPE_TO_CLASS))))


def require(kind: str) -> None:
    """Raise ValueError, with the fix, for a tracker that does not exist or whose package is not installed."""
    if kind not in kinds():
        raise ValueError(f"log.trackers: unknown '{kind}'; {nearest(kind, kinds())}")
    if kind not in {str(each) for each in get_available_trackers()}:
        raise ValueError(f"log.trackers: {kind} is not installed; run: pip install {kind}, or take it out")


def _name(name: str) -> str:
    """Replace the characters of a number's name that a service may refuse."""
    return re.sub(r"[^\w\-. /]", "_", name)


def _identities(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / IDENTITIES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
