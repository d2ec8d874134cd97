"""Reports on the data sets of a run."""

from collections.abc import Sequence
from pathlib import Path

from blda.build.data_examination import examine
from blda.build.run import Run
from blda.data.checks.data_report import DataReport, Problem
from blda.data.checks.dataset_check import CheckScope
from blda.data.checks.digests import compare, files_of
from blda.engine import runtime
from blda_video.jobs import kinds


def check(config: str, overrides: Sequence[str], scope: CheckScope, digests: Path | None = None) -> list[DataReport]:
    """Report on the data sets of a run.

    digests: text file of digests; the reports then name the files that changed since it was written.
    """
    loaded, compose = kinds.loaded(config, overrides)
    run = compose(loaded, runtime.start("no"))
    run.make_data()
    reports = list(examine(run.data, loaded.methods, scope, count_rare=True))
    return reports if digests is None else [*reports, _compared(run, digests)]


def _compared(run: Run, listing: Path) -> DataReport:
    """Compare the files of all data sets with the digests in a listing."""
    files = files_of(frame for reader in run.data.readers.opened() for frame in reader.frames)
    known, faults = compare(listing, files)
    faulty = tuple(Problem("digest", text, True) for text in faults)
    return DataReport(f"digests in {listing}", "SHA-256", len(files), known, problems=faulty)
