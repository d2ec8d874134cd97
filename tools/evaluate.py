"""Measure a checkpoint on a labelled data set.

    python tools/evaluate.py runs/demo/blda/step_000700.pt [key=value ...] > scores.json

The config.yaml beside the checkpoint says what it is measured on; key=value replaces any key of it. Any labelled
folders will do:

    evaluation.reader='{name: folder, images: DIR, labels: DIR, ids: {0: road, 1: car}, ignored: [255]}'
    evaluation.protocols=[cityscapes19] evaluation.size=[512,1024] consistency=[]

consistency=[] (video runs) does without neighbours: the images need be no video. consistency=[-1,1] measures how
predictions behave between such neighbours, of image runs too, given a reader of video; flow and chain say along what.

Large images go through the network in overlapping windows by evaluation.window=[512,512] evaluation.stride=[256,256];
evaluation.flip=true averages with the mirror image.

--calibration FILE measures what the network predicts when it is balanced by a file of tools/calibrate.py.

Prints the scores as JSON, with the name of their protocol, and a table of the classes on the error stream.
"""

import json
import math
import sys
from pathlib import Path

from accelerate import PartialState

import kinds
from blda import atomic
from blda.build.run import Run
from blda.calibration.calibration_file import Calibration
from blda.config.loading import load
from blda.engine import checkpoint, runtime, score_table
from blda.engine.metrics import headline
from blda.models.segmenter import Segmenter
from command import one_line_errors, parser


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("checkpoint", type=Path, help="step_*.pt in a run's folder")
    arguments.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a key of the run's config")
    arguments.add_argument("--calibration", type=Path, metavar="FILE", help="balance its predictions after the fact")
    given = arguments.parse_intermixed_args()
    with one_line_errors():
        scores, protocol, report = measure(given.checkpoint, given.overrides, given.calibration)
    if PartialState().is_main_process:
        print(json.dumps({"protocol": protocol, **atomic.finite(scores)}, indent=1))
        print(report, file=sys.stderr)


def measure(path: Path, overrides: list[str], calibration: Path | None) -> tuple[dict[str, float], str, str]:
    """Evaluate a checkpoint, calibrated or not.

    Returns the scores, the name of the protocol of scores without a prefix, and the table of classes.
    """
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


def restored(path: Path, overrides: list[str]) -> tuple[Run, Segmenter]:
    """Compose the run that wrote a checkpoint, and load its student's weights."""
    states = checkpoint.read(path)
    beside = path.parent / "config.yaml"
    kind, compose = kinds.of_run(beside, overrides)
    config = load(beside, kind, overrides)
    run = compose(config, runtime.start(config.training.precision))
    # The weights come from the checkpoint; what the encoder was initialised from need not exist here.
    student = run.networks.student(pretrained=False)
    checkpoint.restore(path, states, {"student": student})
    return run, student.to(run.accelerator.device)


if __name__ == "__main__":
    main()
