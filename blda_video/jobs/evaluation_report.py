"""Scores of a checkpoint on the labelled data of its config."""

import math
from pathlib import Path

from blda.calibration.calibration_file import Calibration
from blda.engine import score_table
from blda.engine.metrics import headline
from blda_video.jobs.restored_run import checkpoint_of, restored


def measure(path: Path, overrides: list[str], calibration: Path | None) -> tuple[dict[str, float], str, str]:
    """Evaluate a checkpoint, calibrated or not.

    Returns the scores, the name of the protocol of scores without a prefix, and the table of classes.
    """
    path = checkpoint_of(path)
    run, student = restored(path, overrides)
    balance = calibration and Calibration.load(calibration, run.class_names).to(run.accelerator.device)
    scores = run.evaluation.evaluator()(run.evaluation.predictor(student, balance)).scores
    protocol = run.protocols[0]
    if math.isnan(scores[headline(scores)]):
        raise ValueError(
            f"no pixel of the evaluation is labelled with a class of protocol {protocol.name}; check ids, ignored and "
            "rename of evaluation.reader"
        )
    title = f"protocol {protocol.name}, percent" + (f", calibrated with tau {balance.tau:g}" if balance else "")
    return scores, protocol.name, f"{title}\n{score_table.of_classes({path.stem: scores}, protocol.classes)}"
