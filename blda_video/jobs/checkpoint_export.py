"""Export of a trained network, and the report of its check."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blda import atomic
from blda.build import saved_folder
from blda.build.checkpoint_search import checkpoint_of
from blda.build.network_settings import saved_settings
from blda.calibration.calibration_file import Calibration
from blda.config.data_schema import Evaluation
from blda.deploy.export_formats import FORMATS
from blda.deploy.exportable_network import Size, TrainedNetwork
from blda.deploy.load import load
from blda.deploy.network_export import LIMIT, ExportCheck, export
from blda_video.jobs.restored_run import restored


def export_checkpoint(
    where: str,
    format: str,
    size: Size | None = None,
    dynamic: bool = False,
    calibration: Path | None = None,
    output: Path | None = None,
) -> tuple[dict[str, Any], ExportCheck]:
    """Export a trained network, and check the file against it.

    where: a checkpoint, a run's folder, or what else `blda.load` reads. format: one of FORMATS. size: (height, width),
    None for the run's `evaluation.size`. dynamic: batch, height and width stay free. calibration: file of
    `blda calibrate` that goes into the graph; None for the one saved with the network, if any. output: the file, None
    for the name of the weights beside them.

    Returns a report for JSON, and the check; the file is written if that passed.
    """
    to = FORMATS[format]()
    to.require()
    trained, evaluation, weights = _trained(where, calibration)
    size = size or evaluation.size
    if size is None:
        raise ValueError("evaluation.size of the run is null; give --size HEIGHT WIDTH, such as --size 512 1024")
    output = output or weights.with_suffix(to.suffix)
    check = export(trained, to, size, output, dynamic)
    report = {
        "output": str(output) if check.passed else None,
        "format": format,
        "size": list(size),
        "dynamic": dynamic,
        "calibration": trained.details.get("calibration"),
        "megabytes": round(check.bytes / 1e6, 2),
        **atomic.finite({"largest_difference": check.largest, "limit": LIMIT}),
        "differences": atomic.finite(check.differences),
        "left_out": [f"evaluation.{key}" for key in ("window", "flip") if getattr(evaluation, key)],
    }
    return report, check


def _trained(where: str, calibration: Path | None) -> tuple[TrainedNetwork, Evaluation, Path]:
    """Load a network of any kind of run; return it with the run's evaluation and the file of its weights."""
    if not saved_folder.is_id(where) and not saved_folder.is_saved(Path(where)):
        path = checkpoint_of(Path(where))
        if "classification" in saved_settings(path):
            run, student = restored(path, [])
            balance = calibration and Calibration.load(calibration, run.class_names)
            details = _details(run.protocols[0].name, path, balance)
            return TrainedNetwork(student, run.class_names, balance, details), run.config.evaluation, path
    found = load(where, calibration)
    details = _details(found.protocol.name, found.origin.path, found.calibration)
    trained = TrainedNetwork(found.network, found.classes, found.calibration, details)
    return trained, found.config.evaluation, found.origin.path


def _details(protocol: str, weights: Path, calibration: Calibration | None) -> Mapping[str, str]:
    told = {} if calibration is None else {"calibration": f"tau {calibration.tau:g}"}
    return {"protocol": protocol, "checkpoint": weights.name, **told}
