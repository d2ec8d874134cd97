"""Scores of a checkpoint on the labelled data of its config."""

import math
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from blda.build.checkpoint_search import checkpoint_of
from blda.calibration.calibration_file import Calibration
from blda.engine import score_table
from blda.engine.metrics import headline
from blda_video.jobs.restored_run import restored


@dataclass(frozen=True)
class Report:
    """Result of an evaluation.

    scores: number by name. protocol: name of the protocol of scores without a prefix. table: of the classes, for the
    terminal. confusion: counts (C, C) of the run's classes, rows = truth, columns = prediction. classes: their names.
    """

    scores: dict[str, float]
    protocol: str
    table: str
    confusion: Tensor
    classes: tuple[str, ...]


def measure(path: Path, overrides: list[str], calibration: Path | None) -> Report:
    """Evaluate a checkpoint, calibrated or not."""
    path = checkpoint_of(path)
    run, student = restored(path, overrides)
    balance = calibration and Calibration.load(calibration, run.class_names).to(run.accelerator.device)
    result = run.evaluation.evaluator()(run.evaluation.predictor(student, balance))
    scores = result.scores
    protocol = run.protocols[0]
    if math.isnan(scores[headline(scores)]):
        raise ValueError(
            f"no pixel of the evaluation is labelled with a class of protocol {protocol.name}; check ids, ignored and "
            "rename of evaluation.reader"
        )
    title = f"protocol {protocol.name}, percent" + (f", calibrated with tau {balance.tau:g}" if balance else "")
    table = f"{title}\n{score_table.of_classes({path.stem: scores}, protocol.classes)}"
    return Report(scores, protocol.name, table, result.confusion, run.class_names)
