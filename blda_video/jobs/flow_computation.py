"""Flow that a run stores: computing what is missing, and reading what is there."""

import sys
from collections.abc import Sequence
from typing import Any

from blda.build.run import Run
from blda.engine import runtime
from blda_video.build import NeededFlow
from blda_video.clips.clip_crop import Estimator
from blda_video.clips.fill_store import compute
from blda_video.clips.verify_store import Verdict, gathered, verify
from blda_video.flow.flow_store import FlowStore, StoredFlow
from blda_video.jobs import kinds

EXAMPLE = "set flow={name: store, root: DIR, estimator: dis-medium}"


def video_run_of(config: str, overrides: Sequence[str]) -> Run:
    """Compose the video run of a config, and make the worlds that it names."""
    loaded, compose = kinds.loaded(config, overrides, "video")
    run = compose(loaded, runtime.start("no"))
    run.make_data()
    return run


def fill(run: Run) -> int:
    """Store all missing flow of a run; return the number of flows this process wrote."""
    stores = [(each, store) for each in run.data.needed_flow() if isinstance(store := _store(run, each), FlowStore)]
    if not stores:
        raise ValueError(f"flow: this run computes no flow beforehand; {EXAMPLE}")
    device, share = run.accelerator.device, _share(run)
    written = 0
    with runtime.StopSignal() as stop:
        for each, store in stores:
            how = {**share, "device": device, "stopped": lambda: stop.received}
            written += compute(each.reader, each.offsets, each.estimator(), store, **how)
    if stop.received:
        sys.exit(f"stopped by {stop.received} after {written} flows; the same command continues")
    return written


def examine(run: Run) -> Verdict:
    """Check all flow of a run by reading it; the verdict is that of all processes."""
    stores = [(each, store) for each in run.data.needed_flow() if isinstance(store := _store(run, each), StoredFlow)]
    if not stores:
        raise ValueError(f"flow: this run stores no flow; {EXAMPLE}")
    verdicts = (verify(each.reader, each.offsets, store, **_share(run)) for each, store in stores)
    return gathered(sum(verdicts, Verdict()))


def _store(run: Run, needed: NeededFlow) -> Estimator | StoredFlow:
    return run.data.flow(needed.component)


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
