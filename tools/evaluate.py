"""Measure a checkpoint on a labelled data set.

    python tools/evaluate.py runs/demo/blda/step_000700.pt [key=value ...] > scores.json

The config.yaml beside the checkpoint says what it is measured on; key=value replaces any key of it. Any labelled
folders will do:

    evaluation.reader='{name: folder, images: DIR, labels: DIR, ids: {0: road, 1: car}, ignored: [255]}'
    evaluation.protocols=[cityscapes19] evaluation.size=[512,1024] consistency=[]

consistency=[] (video runs) does without neighbours: the images need be no video.

Prints the scores as JSON, and a table of the classes on the error stream.
"""

import json
import sys
from pathlib import Path

from accelerate import PartialState
from command import one_line_errors, parser

from blda import atomic
from blda.build import Build
from blda.config import Config
from blda.configfile import has_key, load
from blda.engine import checkpoint, runtime, table
from blda.engine.inference import Predictor
from blda.models.segmenter import Segmenter
from blda_video.build import VideoBuild
from blda_video.config import VideoConfig


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("checkpoint", type=Path, help="step_*.pt in a run's folder")
    arguments.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a key of the run's config")
    given = arguments.parse_args()
    with one_line_errors():
        scores, report = measure(given.checkpoint, given.overrides)
    if PartialState().is_main_process:
        print(json.dumps(atomic.finite(scores), indent=1))
        print(report, file=sys.stderr)


def measure(path: Path, overrides: list[str]) -> tuple[dict[str, float], str]:
    """The scores of a checkpoint and their table."""
    parts, student = restored(path, overrides)
    scores = parts.evaluator()(Predictor(student, parts.accelerator.autocast)).scores
    protocol = parts.protocols[0]
    return scores, f"protocol {protocol.name}, percent\n{table.of_classes({path.stem: scores}, protocol.classes)}"


def restored(path: Path, overrides: list[str]) -> tuple[Build, Segmenter]:
    """The parts of the run that wrote a checkpoint, and its student with the checkpoint's weights."""
    states = checkpoint.read(path)
    beside = path.parent / "config.yaml"
    kind, build = (VideoConfig, VideoBuild) if has_key(beside, "offsets") else (Config, Build)
    config = load(beside, kind, overrides)
    parts = build(config, runtime.start(config.training.precision))
    # The weights come from the checkpoint; what the encoder was initialised from need not exist here.
    student = parts.student(pretrained=False)
    checkpoint.restore(path, states, {"student": student})
    return parts, student.to(parts.accelerator.device)


if __name__ == "__main__":
    main()
