"""Train methods with several seeds from one config and compare them; prints JSON.

    python benchmarks/methods.py configs/demo.yaml --seeds 0 1 2 [--methods source_only self_training blda] \
        [--output runs/methods] [--jobs 1] [key=value ...]

Each run is `accelerate launch -m blda_video.commands.train` in
OUTPUT/METHOD/seed_N; runs that are finished there are not repeated, stopped ones continue. --jobs: at a time.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from runs import circumstances, result, summary, trained


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("config", type=Path)
    arguments.add_argument("overrides", nargs="*", metavar="key=value")
    arguments.add_argument("--methods", nargs="+", default=["source_only", "self_training", "blda"])
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments.add_argument("--output", type=Path, default=Path("runs/methods"))
    arguments.add_argument("--jobs", type=int, default=1)
    given = arguments.parse_intermixed_args()
    variants = {method: [*given.overrides, f"method={method}"] for method in given.methods}
    folders = trained(given.config, variants, given.seeds, given.output, given.jobs)
    scores = {method: summary([result(folder) for folder in each]) for method, each in folders.items()}
    asked = {"config": str(given.config), "overrides": given.overrides, "seeds": given.seeds}
    print(json.dumps({**circumstances(), **asked, "scores": scores}, indent=1))


if __name__ == "__main__":
    main()
