"""A run from start or resume to its closing table; what the training tools share."""

from __future__ import annotations

import json
from pathlib import Path

from blda import configfile
from blda.build import Build
from blda.config import Config
from blda.engine import runtime, table

RESULT = "result.json"


def train(build: type[Build], config: Config, resume: bool) -> str:
    """Train every compared method and the run's own, each in its folder; returns the table of classes.

    resume: continue the newest checkpoint of each method, start those that have none. Without it a folder that
    holds a run is a ValueError, so nothing is written over.
    """
    folder = Path(config.run)
    methods = dict.fromkeys((*config.compare, config.method))
    if not resume:
        for method in methods:
            _must_be_free(folder / method)
    accelerator = runtime.start(config.training.precision)
    parts = build(config, accelerator)
    columns = {}
    for method in methods:
        scores = _result(folder / method) if resume else None
        if scores is None:
            scores = _train_one(parts, method, folder / method)
        if not scores:  # stopped by a signal
            break
        columns[method] = scores
    accelerator.end_training()
    return _report(columns, parts)


def _train_one(parts: Build, method: str, folder: Path) -> dict[str, float]:
    trainer = parts.trainer(method, folder)
    if any(folder.glob("step_*.pt")):
        trainer.resume()
    trainer.log.resume(trainer.step)
    if parts.accelerator.is_main_process:
        configfile.save(parts.config, folder / "config.yaml")
    parts.accelerator.wait_for_everyone()
    scores = trainer.fit()
    trainer.log.close()
    # The next method starts with a clean Accelerator; this one's wrappers would be unscaled and counted with it.
    parts.accelerator.free_memory()
    if scores and parts.accelerator.is_main_process:
        (folder / RESULT).write_text(json.dumps(scores, indent=1), encoding="utf-8")
    return scores


def _must_be_free(folder: Path) -> None:
    if any(folder.glob("step_*.pt")) or (folder / RESULT).exists():
        raise ValueError(f"{folder} holds a run; continue it with --resume, or set run=ANOTHER_FOLDER")


def _result(folder: Path) -> dict[str, float] | None:
    path = folder / RESULT
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _report(columns: dict[str, dict[str, float]], parts: Build) -> str:
    if not columns or not parts.accelerator.is_main_process:
        return ""
    protocol = parts.protocols[0]
    lines = [
        f"protocol {protocol.name}, percent, last checkpoint of each run",
        table.of_classes(columns, protocol.classes),
    ]
    for method, scores in columns.items():
        best, step = scores["best_on_validation/mIoU"], scores["best_on_validation/step"]
        lines.append(f"{method}: best on validation {best:.2f} at step {step:.0f}, not the result")
    return "\n".join(lines)
