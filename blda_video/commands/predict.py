"""Predict every frame of a video file or of a folder of frames with a checkpoint.

    blda predict runs/demo/blda drive.mp4 --output drive_labels.mp4 --overlay 0.5 [--side-by-side] [--fuse]
    blda predict runs/demo/blda/step_000700.pt photos/ --output labels/ [--overlay 0.5] [key=value ...]

A name that ends in .mp4, .mov or .mkv gets the video with the classes' colours over it and a legend below, written
whole or not at all. A folder gets an indexed PNG for each frame, of its size: the run's classes from 0 on, in their
colours; labelmap.txt (CVAT) and classes.json name them. With --overlay or --side-by-side, pictures to watch lie in
overlays/ beside them. A stopped or killed command continues when it is given again. Frames are read one at a time, so
a video can be of any length, and images of any sizes; every folder of frames is a video of its own.

On a GPU the network gets four frames at a time, in bf16; --batch and --precision change that. Prints frames a second.

--fuse averages what is predicted of a surface point over time, along the flow (--flow, by default the one the run
estimates, else dis-medium). A continued command then predicts all frames again, for what each hands on to the next.

--adapt balances every frame by statistics of the logits that follow the video, without labels: for drives that get
dark or wet, and other cameras (docs/inference.md). It needs a checkpoint of the method blda, and goes with --fuse.

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
    arguments.add_argument("video", type=Path, metavar="VIDEO", help="a video file, a folder of frames, or an image")
    add_overrides(arguments, of="run's config")
    arguments.add_argument("--output", type=Path, required=True, help="a folder, or FILE.mp4")
    arguments.add_argument("--fuse", action="store_true", help="average over time, along the flow")
    arguments.add_argument("--decay", type=float, help="of a frame's weight in the next (default: 0.9)")
    arguments.add_argument(
        "--flow", metavar="NAME", help="an estimator such as dis-medium or raft-small, to fuse along"
    )
    arguments.add_argument("--adapt", action="store_true", help="balance by statistics that follow the video")
    arguments.add_argument("--tau", type=float, help="strength of --adapt (default: 0.3)")
    arguments.add_argument("--overlay", type=float, metavar="SHARE", help="of the colours, 0 to 1 (default: 0.5)")
    arguments.add_argument("--side-by-side", action="store_true", help="with the frame at the left")
    arguments.add_argument(
        "--legend", choices=("all", "seen", "none"), help="classes it lists (default: all in a video, else those seen)"
    )
    arguments.add_argument("--batch", type=int, metavar="N", help="frames at a time (default: 4 on a GPU, else 1)")
    arguments.add_argument("--precision", choices=("no", "bf16", "fp16"), help="default: the run's; bf16 on a GPU")
    arguments.add_argument("--rate", type=float, help="frames a second of the video written (default: as read, or 30)")
    arguments.add_argument("--calibration", type=Path, metavar="FILE", help="balance its predictions after the fact")
    given = parse(arguments, argv)
    with one_line_errors():
        from blda_video.jobs.video_prediction import run

        print(run(given))


if __name__ == "__main__":
    main()
