"""Balance a trained network after the fact: fit statistics of its logits and write a calibration file.

    blda calibrate runs/demo/self_training/step_000700.pt [key=value ...] --output FILE
    blda calibrate --source LOGITS --target LOGITS [--validation LOGITS] --output FILE

The first takes a checkpoint and what its run's config names: whole training images of both domains, at the config's
`resize`, the target's labelled by the network itself with the rule of `self_training.threshold`. The second takes what
any network saved: an .npz with arrays `logits` (N, C, H, W) or (N, C) and `labels`, a folder of such files, or a folder
with logits/*.npy and labels/*.npy; the target's labels are its largest logits. Leaving out what is unsure (--threshold,
and `self_training.threshold` of a classifier's run) hides from the fit where classes lose: it corrects less.

Labels of the target are never read for the fit. The labels of the validation set (the run's `evaluation`) are used for
evaluation only: to report each --tau. The file gets the tau of --choose; `--choose best-miou` (of a classifier, mAcc)
takes it from those labels, and says so in the file and in the report.

Prints JSON, and tables on the error stream. Apply the file with `blda evaluate --calibration FILE`.
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from blda_video.commands.command_line import one_line_errors, parse, parser

TAUS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
BEST = "best-miou"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = parse(arguments(), argv)
    with one_line_errors():
        from blda_video.jobs.checkpoint_calibration import calibration_of

        result, accelerator = calibration_of(given)
        if accelerator.is_main_process:
            result.calibration.save(given.output)
            print(json.dumps({"calibration": str(given.output), **result.numbers()}, indent=1))
            print(result.tables(), file=sys.stderr)


def arguments() -> ArgumentParser:
    """Build the parser of the command line."""
    found = parser(__doc__)
    found.add_argument("run", nargs="*", metavar="CHECKPOINT [key=value ...]", help="and keys of its config to replace")
    found.add_argument("--output", type=Path, required=True, metavar="FILE", help="the calibration file to write")
    found.add_argument("--tau", type=float, nargs="+", default=TAUS, help="strengths to report (default: %(default)s)")
    found.add_argument("--choose", type=_tau, default=0.1, metavar="TAU", help=f"goes to the file; {BEST}: by labels")
    found.add_argument("--passes", type=int, default=20, help="most EM passes; fewer when the fit is stable")
    found.add_argument("--min-pixels", type=int, help="classes with fewer are left alone (default: the run's, or 100)")
    of_run = found.add_argument_group("with a checkpoint")
    of_run.add_argument("--images", type=int, default=500, help="of each domain to fit to, spread over its data set")
    of_run.add_argument("--statistics", choices=("fit", "checkpoint"), default="fit", help="or those of its training")
    of_run.add_argument("--fit-only", action="store_true", help="measure nothing; needs no labels of the target")
    saved = found.add_argument_group("with saved logits")
    for name, labels in (("source", "with labels"), ("target", "labels are not read"), ("validation", "with labels")):
        saved.add_argument(f"--{name}", type=Path, metavar="LOGITS", help=f".npz or folder, {labels}")
    saved.add_argument("--classes", nargs="+", metavar="NAME", help="names, or one file of names, one a line")
    saved.add_argument("--threshold", type=float, default=0.0, help="leave out target images less sure than this")
    return found


def _tau(value: str) -> float | None:
    return None if value == BEST else float(value)


if __name__ == "__main__":
    main()
