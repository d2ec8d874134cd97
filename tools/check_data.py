"""Check the data that a run needs before it starts: what is there, what it holds, what is wrong and how to mend it.

    python tools/check_data.py CONFIG [key=value ...] [--all] [--sample 64] [--json FILE] [--workers N]

CONFIG: of any run, for example configs/viper2csseq.yaml. Finds every image, label, neighbour and stored
flow by name, and opens a sample of each data set, or all of it. Prints sizes, class frequencies and every problem with
its mend; the data sets are only read. Where the run favours rare classes, all labels of the source are counted, and
training finds the counts in the run's cache. Street worlds that the config names are made first. Exits with 1 if
training could not work.
"""

import json
import sys
from pathlib import Path

import kinds
from blda import atomic
from blda.config import loading
from blda.data.checks.data_report import DataReport, as_json, as_text, works
from blda.data.checks.dataset_check import CheckScope
from blda.engine import runtime
from blda_video.build import VideoBuild
from command import completed, one_line_errors, parser


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("config", help="YAML file of a run")
    arguments.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a key of the config")
    arguments.add_argument("--all", action="store_true", help="open every frame, not a sample")
    arguments.add_argument("--sample", type=int, default=64, metavar="N", help="frames of each data set to open (64)")
    arguments.add_argument("--json", metavar="FILE", help="write the report to FILE too, with all problems")
    arguments.add_argument("--workers", type=int, default=runtime.cores(), metavar="N", help="processes that read")
    given = arguments.parse_intermixed_args()
    config = (given.config, *given.overrides)
    with one_line_errors(*config):
        scope = CheckScope(None if given.all else given.sample, None, given.workers, progress=True)
        reports = check(given.config, given.overrides, scope)
        if given.json:
            atomic.write(Path(given.json), json.dumps(as_json(reports), indent=1))
    print(completed(as_text(reports), *config))
    sys.exit(0 if works(reports) else 1)


def check(path: str, overrides: list[str], scope: CheckScope) -> list[DataReport]:
    """Reports on the data sets of a run."""
    kind, build = kinds.of_run(Path(path), overrides)
    config = loading.load(path, kind, overrides)
    parts = build(config, runtime.start("no"))
    if isinstance(parts, VideoBuild):
        parts.make_worlds()
    return list(parts.examine((*config.compare, config.method), scope, statistics=True))


if __name__ == "__main__":
    main()
