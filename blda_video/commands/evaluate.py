"""Measure a checkpoint on a labelled data set.

    blda evaluate runs/demo/blda/step_000700.pt [key=value ...] > scores.json

The config.yaml beside the checkpoint says what it is measured on; key=value replaces any key of it. Any labelled
folders will do:

    evaluation.reader='{name: folder, images: DIR, labels: DIR, ids: {0: road, 1: car}, ignored: [255]}'
    evaluation.protocols=[cityscapes19] evaluation.size=[512,1024] consistency=[]

consistency=[] (video runs) does without neighbours: the images need be no video. consistency=[-1,1] measures how
predictions behave between such neighbours, of image runs too, given a reader of video; flow and chain say along what.

Large images go through the network in overlapping windows by evaluation.window=[512,512] evaluation.stride=[256,256];
evaluation.flip=true averages with the mirror image.

--calibration FILE measures what the network predicts when it is balanced by a file of blda calibrate.

--confusion FILE.png draws the confusion matrix of the run's classes, each row in percent; a FILE.csv or FILE.json holds
its pixels.

Prints the scores as JSON, with the name of their protocol, and a table of the classes on the error stream. Classes that
no label shows have no scores; the table's last line names them.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from blda_video.commands.command_line import add_overrides, one_line_errors, parse, parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    arguments = parser(__doc__)
    arguments.add_argument("checkpoint", type=Path, help="step_*.pt, or a run's folder for its newest")
    add_overrides(arguments, of="run's config")
    arguments.add_argument("--calibration", type=Path, metavar="FILE", help="balance its predictions after the fact")
    arguments.add_argument(
        "--confusion", type=Path, metavar="FILE", help="write the confusion matrix: .png, .csv, .json"
    )
    given = parse(arguments, argv)
    with one_line_errors():
        from accelerate import PartialState

        from blda.engine import confusion_file
        from blda_video.jobs.evaluation_report import measure

        if given.confusion:
            confusion_file.require(given.confusion)
        report = measure(given.checkpoint, given.overrides, given.calibration)
        if PartialState().is_main_process:
            if given.confusion:
                confusion_file.write(given.confusion, report.confusion, report.classes)
            numbers = {name: value for name, value in report.scores.items() if math.isfinite(value)}
            print(json.dumps({"protocol": report.protocol, **numbers}, indent=1))
            print(report.table, file=sys.stderr)


if __name__ == "__main__":
    main()
