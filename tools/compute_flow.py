"""Compute and store the flow that a run needs, both ways between each key frame and its neighbours.

    python tools/compute_flow.py configs/viper2csseq.yaml [key=value ...]

The config's `flow` names the store and what makes it: {name: store, root: DIR, estimator: dis-medium}. What is stored
already is left as it is, so a stopped computation is continued by the same command. Under `accelerate launch` the
pairs are shared out over the processes. A frame that cannot be read is an error, or with data.on_error=skip left out.
"""

import sys

from command import one_line_errors, parser

from blda import configfile
from blda.engine import runtime
from blda_video.build import VideoBuild
from blda_video.config import VideoConfig
from blda_video.flow.compute import compute
from blda_video.flow.store import FlowStore


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("config", help="YAML file of a video run")
    arguments.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a key of the config")
    given = arguments.parse_args()
    with one_line_errors(given.config, *given.overrides):
        written = fill(configfile.load(given.config, VideoConfig, given.overrides))
    print(f"{written} flows written", file=sys.stderr)


def fill(config: VideoConfig) -> int:
    """Store all flow of a run that is missing; returns the number of flows this process wrote."""
    accelerator = runtime.start("no")
    build = VideoBuild(config, accelerator)
    build.make_worlds()
    store = build.flow()
    if not isinstance(store, FlowStore):
        raise ValueError("flow: this run computes flow live; set flow={name: store, root: DIR, estimator: dis-medium}")
    rank, world = accelerator.process_index, accelerator.num_processes
    tolerant = config.data.on_error == "skip"
    return sum(
        compute(reader, offsets, build.estimator(), store, rank, world, accelerator.is_main_process, tolerant)
        for reader, offsets in build.flow_pairs()
        if offsets
    )


if __name__ == "__main__":
    main()
