"""Draw what checkpoints predict: a row for each frame, with image, truth and the prediction of every checkpoint.

    blda draw runs/demo/*/step_*.pt --output predictions.png [--frames 4]

Frames are spread over the data set that the first checkpoint's run is evaluated on. --calibration FILE, made by
blda calibrate for the last checkpoint, adds a column: what that one predicts when it is balanced.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blda_video.commands.command_line import one_line_errors, parse, parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    arguments = parser(__doc__)
    arguments.add_argument("checkpoints", nargs="+", type=Path, help="step_*.pt, or folders of runs for their newest")
    arguments.add_argument("--output", type=Path, required=True, help="PNG file to write")
    arguments.add_argument("--frames", type=int, default=4, help="number of rows")
    arguments.add_argument("--calibration", type=Path, metavar="FILE", help="of the last checkpoint; adds a column")
    given = parse(arguments, argv)
    with one_line_errors():
        if given.output.suffix.lower() != ".png":
            raise ValueError(f"cannot write {given.output}; give a file that ends in .png")
        import cv2

        from blda_video.jobs.prediction_sheet import draw

        sheet = draw(given.checkpoints, given.frames, given.calibration)
        if not cv2.imwrite(str(given.output), sheet.permute(1, 2, 0).numpy()[..., ::-1]):
            raise ValueError(f"cannot write {given.output}; check that its folder exists")


if __name__ == "__main__":
    main()
