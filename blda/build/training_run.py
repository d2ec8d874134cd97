"""Training from start or resume to the closing table; of any kind of run."""

from __future__ import annotations

import dataclasses
import gc
import json
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from blda import atomic, code_version
from blda.build import run_folder, tracker_factory
from blda.build.run import Run
from blda.build.run_folder import MAY_CHANGE
from blda.config import loading
from blda.config.schema import Config
from blda.engine import checkpoint, launcher, runtime, score_table
from blda.engine.metrics import headline

RESULT, CONFIG = "result.json", "config.yaml"
TEXTS = ("protocol", *code_version.KEYS)
"""Texts that a result holds beside its numbers."""
LEAVE_RESULT = ("compare", "data", "data_root", "log", "method", "run")
"""Keys that may differ when a finished run's result is taken as it is."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """Outcome of a training.

    scores: method -> its scores by name, without methods that a signal stopped. table: of the classes, empty in all
    processes but the main one.
    """

    scores: dict[str, dict[str, float]]
    table: str


def train(compose: Callable[[Config, Accelerator], Run], config: Config, resume: bool) -> Trained:
    """Train the compared methods and the run's own, each in its folder.

    compose: builds the run, such as `image_run`.
    resume: continue each method from its newest checkpoint, start those that have none, and read the results of those
    that are finished with this config.
    Raises ValueError without `resume` for a folder that holds a run, so nothing is overwritten, and with it when the
    config differs in keys that define the experiment.
    """
    launcher.require_accumulation(config.training.accumulate)
    precision = launcher.agreed_precision(config.training.precision)
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, precision=precision))
    folder = Path(config.run)
    methods = config.methods
    for method in methods:
        _check_folder(folder / method, config, resume)
    tracker_factory.require(config)
    accelerator = runtime.start(precision)
    with ExitStack() as owned:
        _claim([folder / method for method in methods], config, resume, accelerator, owned)
        run = compose(config, accelerator)
        run.prepare(methods)
        columns = {}
        for method in methods:
            scores = _result(folder / method, config)
            if scores is None:
                scores = _train_one(run, method, folder / method)
            if not scores:  # stopped by a signal
                break
            columns[method] = scores
        accelerator.end_training()
    return Trained(columns, _report(columns, run))


def _claim(folders: Sequence[Path], config: Config, resume: bool, accelerator: Accelerator, owned: ExitStack) -> None:
    """Claim the folders in the main process until `owned` ends; ValueError in all processes when it cannot."""
    said: list[Any] = [None]
    if accelerator.is_main_process:
        try:
            for folder in folders:
                owned.enter_context(run_folder.claimed(folder))
                _check_folder(folder, config, resume)  # again: another run may have begun and ended since
        except (ValueError, OSError) as error:
            said = [str(error)]
    broadcast_object_list(said)
    if said[0] is not None:
        raise ValueError(said[0])


def _train_one(run: Run, method: str, folder: Path) -> dict[str, float]:
    trainer = run.trainer(method, folder)
    continued = checkpoint.latest(folder) is not None
    if run.accelerator.is_main_process and not continued:
        run_folder.begin(folder, run.config)
    run.accelerator.wait_for_everyone()
    trainer.identity = run_folder.identity(folder, run.config)
    if continued:
        trainer.resume()
    trainer.log.resume(trainer.step)
    if run.accelerator.is_main_process:
        (folder / RESULT).unlink(missing_ok=True)
        loading.save(dataclasses.replace(run.config, method=method, compare=()), folder / CONFIG)
    run.accelerator.wait_for_everyone()
    try:
        scores = trainer.fit()
    finally:
        trainer.log.close()
    if scores and run.accelerator.is_main_process:
        atomic.write_numbers(folder / RESULT, scores, protocol=run.protocols[0].name, **code_version.code_version())
    # The next method starts with a clean Accelerator and an empty device; patched forwards are reference cycles.
    del trainer
    run.accelerator.free_memory()
    gc.collect()
    return scores


def _check_folder(folder: Path, config: Config, resume: bool) -> None:
    """Raise ValueError unless the folder is free, or holds a run that this config continues."""
    if not resume:
        if checkpoint.latest(folder) or any((folder / name).exists() for name in (RESULT, "metrics.jsonl")):
            raise ValueError(f"{folder} holds a run; continue it with --resume, or set run=ANOTHER_FOLDER")
        return
    changed = [key for key in _changed(folder, config) if key not in MAY_CHANGE]
    if changed:
        raise ValueError(
            f"{folder} was trained with another {', '.join(changed)} (see its {CONFIG}); "
            "resume with the same, or set run=ANOTHER_FOLDER"
        )


def _changed(folder: Path, config: Config) -> list[str]:
    """Return the top-level keys in which the config differs from the one saved in the folder."""
    path = folder / CONFIG
    saved = loading.load(path, type(config)) if path.exists() else config
    return [f.name for f in dataclasses.fields(config) if getattr(saved, f.name) != getattr(config, f.name)]


def _result(folder: Path, config: Config) -> dict[str, float] | None:
    """Return the scores of a method that is finished with this config, else None."""
    path = folder / RESULT
    if not path.exists() or not set(_changed(folder, config)) <= set(LEAVE_RESULT):
        return None
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
        scores = {name: math.nan if value is None else value for name, value in numbers.items() if name not in TEXTS}
    except (ValueError, AttributeError):
        scores = {}
    judged = headline(scores)
    needed = {judged, f"best_on_validation/{judged}", "best_on_validation/step"}
    if not needed <= scores.keys() or not all(isinstance(value, int | float) for value in scores.values()):
        raise ValueError(f"{path} is damaged; delete it, then --resume measures the run again")
    return scores


def _report(columns: dict[str, dict[str, float]], run: Run) -> str:
    if not columns or not run.accelerator.is_main_process:
        return ""
    protocol = run.protocols[0]
    lines = [
        f"protocol {protocol.name}, percent, last checkpoint of each run",
        score_table.of_classes(columns, protocol.classes),
    ]
    for method, scores in columns.items():
        judged = headline(scores)
        best, step = scores[f"best_on_validation/{judged}"], scores["best_on_validation/step"]
        lines.append(
            f"{method}: best {protocol.name} {judged} on validation {best:.2f} at step {step:.0f}, not the result"
        )
    return "\n".join(lines)
