"""Choose among the checkpoints of one or several runs without a label of the target.

    blda rank runs/demo/blda [RUN ...] [key=value ...] [--images 60]

Every step_*.pt of the runs, which may differ in method, seed and settings but not in classes and target, predicts the
same training images of the target. It is scored by its mean rank in criteria that need no labels: information and
entropy of the predictions, the mIoU that they expect of themselves, agreement with the mirror image and, along the
flow, with the frame before, spread of the estimated bias, and shares of the classes beside the source's
(docs/method.md). training.keep=20 keeps more checkpoints of a run than the last two. key=value replaces a key of all
runs' configs.

Prints JSON with the chosen checkpoint and all others in order, and a table on the error stream.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from blda_video.commands.command_line import one_line_errors, parse, parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    arguments = parser(__doc__)
    arguments.add_argument("runs", nargs="+", metavar="RUN", help="folder of a run; and key=value")
    arguments.add_argument("--images", type=int, default=60, help="target images to predict (default: %(default)s)")
    given = parse(arguments, argv)
    with one_line_errors():
        from accelerate import PartialState

        from blda_video.jobs.checkpoint_ranking import rank, report, table

        folders = [Path(each) for each in given.runs if "=" not in each or Path(each).exists()]
        overrides = [each for each in given.runs if Path(each) not in folders]
        ranked = rank(folders, overrides, given.images)
        if PartialState().is_main_process:
            print(json.dumps(report(ranked), indent=1))
            print(table(ranked), file=sys.stderr)


if __name__ == "__main__":
    main()
