"""Check the data that a run needs before it starts: what is there, what it holds, what is wrong and how to mend it.

    blda check-data CONFIG [key=value ...] [--all] [--sample 64] [--json FILE] [--workers N]

CONFIG: of any run, for example viper2csseq. Finds every image, label, neighbour and stored
flow by name, and opens a sample of each data set, or all of it. Prints sizes, class frequencies and every problem with
its mend; the data sets are only read. Where the run favours rare classes, all labels of the source are counted, and
training finds the counts in the run's cache. Street worlds that the config names are made first. Exits with 1 if
training could not work.

--digests FILE, with --all: notes the SHA-256 of every image and label in FILE, as sha256sum does, and compares with
what an earlier call noted there: of a JPEG with a bit that fell over, no decoder may say a word.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from blda_video.commands.command_line import add_overrides, completed, one_line_errors, parse, parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    arguments = parser(__doc__)
    arguments.add_argument("config", help="YAML file of a run, or the name of a shipped config")
    add_overrides(arguments)
    arguments.add_argument("--all", action="store_true", help="open every frame, not a sample")
    arguments.add_argument("--sample", type=int, default=64, metavar="N", help="frames of each data set to open (64)")
    arguments.add_argument("--json", metavar="FILE", help="write the report to FILE too, with all problems")
    arguments.add_argument("--digests", metavar="FILE", help="with --all: compare files with the digests in FILE")
    arguments.add_argument("--workers", type=int, metavar="N", help="processes that read (default: one a core)")
    given = parse(arguments, argv)
    config = (given.config, *given.overrides)
    with one_line_errors(*config):
        if given.digests and not given.all:
            raise ValueError("--digests looks at every file; add --all")
        from blda import atomic
        from blda.data.checks.data_report import as_json, as_text, works
        from blda.data.checks.dataset_check import CheckScope
        from blda.engine import runtime
        from blda_video.jobs.data_check import check

        workers = runtime.cores() if given.workers is None else given.workers
        scope = CheckScope(None if given.all else given.sample, workers=workers, progress=True)
        reports = check(given.config, given.overrides, scope, given.digests and Path(given.digests))
        if given.json:
            atomic.write(Path(given.json), json.dumps(as_json(reports), indent=1))
        print(completed(as_text(reports), *config))
        sys.exit(0 if works(reports) else 1)


if __name__ == "__main__":
    main()
