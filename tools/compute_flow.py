"""Compute and store the flow that a run needs, both ways between each key frame and its neighbours; of a run with
`chain`, between the frames in between.

    python tools/compute_flow.py configs/viper2csseq.yaml [key=value ...]
    python tools/compute_flow.py configs/viper2csseq.yaml --check

The config's `flow` names the store and what makes it: {name: store, root: DIR, estimator: dis-medium}, or as a part,
estimator: {name: raft, size: large, weights: default, iterations: 24}. What is stored already is left as it is, so a
stopped or killed computation is continued by the same command. Under `accelerate launch` the pairs are shared out over
the processes, each with its device; the bar shows the share of the first. A frame that cannot be read is an error, or
with data.on_error=skip left out. --check reads every flow that the run needs, of a store or of published files, and
exits with 1 and a line on how to mend it when something is missing, damaged, or of another size, estimator or offset.
"""

import sys
from typing import Any

from blda.build.run import Run
from blda.config import loading
from blda.engine import runtime
from blda_video.build import video_run
from blda_video.clips.fill_store import compute
from blda_video.clips.verify_store import Verdict, gathered, verify
from blda_video.config import VideoConfig
from blda_video.flow.flow_store import FlowStore, StoredFlow
from command import completed, one_line_errors, parser

EXAMPLE = "set flow={name: store, root: DIR, estimator: dis-medium}"


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("config", help="YAML file of a video run")
    arguments.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a key of the config")
    arguments.add_argument("--check", action="store_true", help="verify what is stored instead of computing")
    given = arguments.parse_intermixed_args()
    shown = (given.config, *given.overrides)
    with one_line_errors(*shown):
        config = loading.load(given.config, VideoConfig, given.overrides)
        run = video_run(config, runtime.start("no"))
        run.make_data()
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


def fill(run: Run) -> int:
    """Store all missing flow of a run; return the number of flows this process wrote."""
    store = run.data.flow()
    if not isinstance(store, FlowStore):
        raise ValueError(f"flow: this run computes no flow beforehand; {EXAMPLE}")
    estimator, device, share = run.data.stored_flow_estimator(), run.accelerator.device, _share(run)
    written = 0
    with runtime.StopSignal() as stop:
        for reader, offsets in run.data.flow_pairs():
            written += compute(reader, offsets, estimator, store, **share, device=device, stopped=lambda: stop.received)
    if stop.received:
        sys.exit(f"stopped by {stop.received} after {written} flows; the same command continues")
    return written


def examine(run: Run) -> Verdict:
    """Check all flow of a run by reading it; the verdict is that of all processes."""
    store = run.data.flow()
    if not isinstance(store, StoredFlow):
        raise ValueError(f"flow: this run stores no flow; {EXAMPLE}")
    verdicts = (verify(reader, offsets, store, **_share(run)) for reader, offsets in run.data.flow_pairs())
    return gathered(sum(verdicts, Verdict()))


def _share(run: Run) -> dict[str, Any]:
    """Return the keywords that give this process its share of the work."""
    accelerator = run.accelerator
    return {
        "rank": accelerator.process_index,
        "world": accelerator.num_processes,
        "chain": run.config.chain,
        "progress": accelerator.is_main_process,
        "skip_unreadable": run.config.data.on_error == "skip",
    }


if __name__ == "__main__":
    main()
