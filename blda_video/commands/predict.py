"""Predict every frame of a video file or of a folder of frames with a checkpoint.

    blda predict runs/demo/blda/step_000700.pt drive.mp4 --output labels/ [--fuse] [key=value ...]
    blda predict runs/demo/blda/step_000700.pt frames/ --output drive.mp4 --rate 10

A folder gets an indexed PNG for each frame, of its size: the run's classes from 0 on, in their colours. A stopped or
killed command continues when it is given again. A name that ends in .mp4, .mov or .mkv gets the video with the classes'
colours over it, written whole or not at all. Frames are read one at a time, so a video can be of any length; every
folder of frames is a video of its own.

--fuse averages what is predicted of a surface point over time, along the flow (--flow, by default the one the run
estimates, else dis-medium). A continued command then predicts all frames again, for what each hands on to the next.

key=value replaces keys of the run's config: evaluation.size is the size that the network sees, evaluation.window and
evaluation.flip are how. --calibration FILE predicts by a file of blda calibrate.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blda_video.commands.command_line import add_overrides, one_line_errors, parse, parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    arguments = parser(__doc__)
    arguments.add_argument("checkpoint", type=Path, help="step_*.pt, or a run's folder for its newest")
    arguments.add_argument("video", type=Path, metavar="VIDEO", help="a video file, or a folder of frames")
    add_overrides(arguments, of="run's config")
    arguments.add_argument("--output", type=Path, required=True, help="a folder, or FILE.mp4")
    arguments.add_argument("--fuse", action="store_true", help="average over time, along the flow")
    arguments.add_argument("--decay", type=float, help="of a frame's weight in the next (default: 0.9)")
    arguments.add_argument(
        "--flow", metavar="NAME", help="an estimator such as dis-medium or raft-small, to fuse along"
    )
    arguments.add_argument("--rate", type=float, help="frames a second of the video written (default: as read, or 30)")
    arguments.add_argument("--calibration", type=Path, metavar="FILE", help="balance its predictions after the fact")
    given = parse(arguments, argv)
    with one_line_errors():
        from blda_video.jobs.video_prediction import run

        run(given)


if __name__ == "__main__":
    main()
