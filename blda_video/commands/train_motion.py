"""Train the network that tells classes by optical flow alone, for pseudo-labels that follow motion.

    blda train-motion viper2csseq 'motion={weights: runs/motion.pt}'
    blda train viper2csseq 'motion={weights: runs/motion.pt}'

It learns in minutes from the labels and the flow of the source, which must be a video, and is written to
`motion.weights`. The flow leads to the frames at `offsets` and is estimated on the crops by what the run's flow is
estimated with; motion.flow names another. The run then reads the file, and the flow of a target clip speaks for or
against each class (docs/method.md, section 7).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from blda_video.commands.command_line import add_overrides, one_line_errors, parse, parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    arguments = parser(__doc__)
    arguments.add_argument("config", help="YAML file of a video run, or the name of a shipped config")
    add_overrides(arguments)
    given = parse(arguments, argv)
    with one_line_errors(given.config, *given.overrides):
        from blda_video.jobs.motion_training import train_motion

        done = train_motion(given.config, given.overrides)
        told = f"{done.accuracy:.1f} % of the source's last pixels right by flow alone"
        print(f"{done.path}: {told} ({done.commonest:.1f} % by the commonest class)", file=sys.stderr)


if __name__ == "__main__":
    main()
