"""Compute and store the flow that a run needs.

    blda compute-flow viper2csseq [key=value ...]
    blda compute-flow viper2csseq --check

Flow goes both ways between each key frame and its neighbours; of a run with `chain`, between the frames in between. The
config's `flow` names the store and what makes it: {name: store, root: DIR, estimator: dis-medium}, or as a part,
estimator: {name: raft, size: large, weights: default, iterations: 24}. What is stored already is left as it is, so a
stopped or killed computation is continued by the same command. Under `accelerate launch` the pairs are shared out over
the processes, each with its device; the bar shows the share of the first. A frame that cannot be read is an error, or
with data.on_error=skip left out. --check reads every flow that the run needs, of a store or of published files, and
exits with 1 and a line on how to mend it when something is missing, damaged, or of another size, estimator or offset.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from blda_video.commands.command_line import add_overrides, completed, one_line_errors, parse, parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    arguments = parser(__doc__)
    arguments.add_argument("config", help="YAML file of a video run, or the name of a shipped config")
    add_overrides(arguments)
    arguments.add_argument("--check", action="store_true", help="verify what is stored instead of computing")
    given = parse(arguments, argv)
    shown = (given.config, *given.overrides)
    with one_line_errors(*shown):
        from blda_video.jobs.flow_computation import examine, fill, video_run_of

        run = video_run_of(given.config, given.overrides)
        if not given.check:
            print(f"{fill(run)} flows written", file=sys.stderr)
            return
        verdict = examine(run)
        if run.accelerator.is_main_process:
            for line in verdict.lines():
                print(completed(line, *shown))
            counts = f"{len(verdict.missing)} missing, {len(verdict.faults)} faulty"
            print(f"{verdict.wanted} flows needed, {counts}", file=sys.stderr)
        sys.exit(1 if verdict.lines() else 0)


if __name__ == "__main__":
    main()
