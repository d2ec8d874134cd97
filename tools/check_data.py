"""Check the data that a run needs before it starts: what is there, what it holds, what is wrong and how to mend it.

    python tools/check_data.py CONFIG [key=value ...] [--all] [--sample 64] [--json FILE] [--workers N]

CONFIG: of any run, for example configs/viper2csseq.yaml. Finds every image, label, neighbour and stored
flow by name, and opens a sample of each data set, or all of it. Prints sizes, class frequencies and every problem with
its mend; the data sets are only read. Where the run favours rare classes, all labels of the source are counted, and
training finds the counts in the run's cache. Street worlds that the config names are made first. Exits with 1 if
training could not work.

--digests FILE, with --all: notes the SHA-256 of every image and label in FILE, as sha256sum does, and compares with
what an earlier call noted there: of a JPEG with a bit that fell over, no decoder may say a word.
"""

import json
import sys
from pathlib import Path

import kinds
from blda import atomic
from blda.build.data_examination import examine
from blda.build.run import Run
from blda.config import loading
from blda.data.checks.data_report import DataReport, Problem, as_json, as_text, works
from blda.data.checks.dataset_check import CheckScope
from blda.data.checks.digests import compare, files_of
from blda.engine import runtime
from command import completed, one_line_errors, parser


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("config", help="YAML file of a run")
    arguments.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a key of the config")
    arguments.add_argument("--all", action="store_true", help="open every frame, not a sample")
    arguments.add_argument("--sample", type=int, default=64, metavar="N", help="frames of each data set to open (64)")
    arguments.add_argument("--json", metavar="FILE", help="write the report to FILE too, with all problems")
    arguments.add_argument("--digests", metavar="FILE", help="with --all: compare files with the digests in FILE")
    arguments.add_argument("--workers", type=int, default=runtime.cores(), metavar="N", help="processes that read")
    given = arguments.parse_intermixed_args()
    config = (given.config, *given.overrides)
    with one_line_errors(*config):
        if given.digests and not given.all:
            raise ValueError("--digests looks at every file; add --all")
        scope = CheckScope(None if given.all else given.sample, workers=given.workers, progress=True)
        reports = check(given.config, given.overrides, scope, given.digests and Path(given.digests))
        if given.json:
            atomic.write(Path(given.json), json.dumps(as_json(reports), indent=1))
    print(completed(as_text(reports), *config))
    sys.exit(0 if works(reports) else 1)


def check(path: str, overrides: list[str], scope: CheckScope, digests: Path | None = None) -> list[DataReport]:
    """Report on the data sets of a run.

    digests: text file of digests; the reports then name the files that changed since it was written.
    """
    kind, compose = kinds.of_run(Path(path), overrides)
    config = loading.load(path, kind, overrides)
    run = compose(config, runtime.start("no"))
    run.make_data()
    reports = list(examine(run.data, (*config.compare, config.method), scope, count_rare=True))
    return reports if digests is None else [*reports, _compared(run, digests)]


def _compared(run: Run, listing: Path) -> DataReport:
    """Compare the files of all data sets with the digests in a listing."""
    files = files_of(frame for reader in run.data.readers.opened() for frame in reader.frames)
    known, faults = compare(listing, files)
    faulty = tuple(Problem("digest", text, True) for text in faults)
    return DataReport(f"digests in {listing}", "SHA-256", len(files), known, problems=faulty)


if __name__ == "__main__":
    main()
