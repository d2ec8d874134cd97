"""Export of a checkpoint's network, and the report of its check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from blda import atomic
from blda.build.run import Run
from blda.calibration.calibration_file import Calibration
from blda.deploy.export_formats import FORMATS
from blda.deploy.exportable_network import Size, TrainedNetwork
from blda.deploy.network_export import LIMIT, export
from blda_video.jobs.restored_run import checkpoint_of, restored


def export_checkpoint(
    path: Path,
    format: str,
    size: Size | None = None,
    dynamic: bool = False,
    calibration: Path | None = None,
    output: Path | None = None,
) -> tuple[dict[str, Any], bool]:
    """Export the network of a checkpoint, and check the file against it.

    path: a checkpoint or a run's folder. format: one of FORMATS. size: (height, width), None for the run's
    `evaluation.size`. dynamic: batch, height and width stay free. calibration: file of `blda calibrate` that goes into
    the graph. output: the file, None for the checkpoint's name beside it.

    Returns a report for JSON, and True if the check passed and the file was written.
    """
    path, to = checkpoint_of(path), FORMATS[format]()
    to.require()
    run, student = restored(path, [])
    size = size or run.config.evaluation.size
    if size is None:
        raise ValueError(
            "evaluation.size of the run's config is null; give --size HEIGHT WIDTH, such as --size 512 1024"
        )
    balance = calibration and Calibration.load(calibration, run.class_names)
    details = {"protocol": run.protocols[0].name, "checkpoint": path.name}
    if balance is not None:
        details["calibration"] = calibration.name
    trained = TrainedNetwork(student, run.class_names, balance, details)
    output = output or path.with_suffix(to.suffix)
    check = export(trained, to, size, output, dynamic)
    report = {
        "output": str(output) if check.passed else None,
        "format": format,
        "size": list(size),
        "dynamic": dynamic,
        "calibration": str(calibration) if calibration else None,
        "megabytes": round(check.bytes / 1e6, 2),
        **atomic.finite({"largest_difference": check.largest, "limit": LIMIT}),
        "differences": atomic.finite(check.differences),
        "left_out": _left_out(run),
    }
    return report, check.passed


def _left_out(run: Run) -> list[str]:
    """Return the keys by which the run evaluates with more than the network, which the file does not contain."""
    evaluation = run.config.evaluation
    return [f"evaluation.{key}" for key in ("window", "flip") if getattr(evaluation, key)]
