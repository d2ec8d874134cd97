"""Draw the logit statistics of a BLDA checkpoint: medians and corrections of all cells, densities and bias by class.

    blda show-statistics runs/demo/blda/step_000700.pt [--output FILE.png] [--json]
    blda show-statistics runs/demo/blda/step_000700.pt --classes road sidewalk car

--classes draws the cells of a few classes in full instead: densities of source and target with the anchor, and the
correction as a function of the logit. --output also takes .pdf and .svg; without it, the figure goes beside the
checkpoint. Where the checkpoint's step was evaluated, the bias measured with labels, in the run's metrics.jsonl, is
drawn with the estimate.

--json prints the numbers instead, and draws only to a given --output.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from blda_video.commands.command_line import one_line_errors, parse, parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    arguments = parser(__doc__)
    arguments.add_argument("checkpoint", type=Path, help="step_*.pt of a run of method=blda, or the run's folder")
    arguments.add_argument("--output", type=Path, metavar="FILE", help="figure to write (default: CHECKPOINT.png)")
    arguments.add_argument("--classes", nargs="+", metavar="NAME", help="draw the cells of these in full")
    arguments.add_argument("--json", action="store_true", help="print the numbers")
    given = parse(arguments, argv)
    with one_line_errors():
        from blda.build.checkpoint_search import checkpoint_of
        from blda_video.jobs.statistics_report import draw, numbers, read

        path = checkpoint_of(given.checkpoint)
        shown = read(path)
        if given.json:
            print(json.dumps(numbers(shown), indent=1))
        if given.output or not given.json:
            draw(shown, given.classes, given.output or path.with_suffix(".png"))


if __name__ == "__main__":
    main()
