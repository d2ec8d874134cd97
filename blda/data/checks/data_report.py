"""Report of a data-set check: numbers, problems with their fixes, and both as text or JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

SHOWN = 5
"""Problems of one kind that the text lists; the report holds all."""


@dataclass(frozen=True)
class Problem:
    """Problem that a check found.

    kind: the sort of problem, such as "file" or "classes". text: one line that names the fault, the file and the fix.
    fatal: training could not work with it.
    """

    kind: str
    text: str
    fatal: bool


@dataclass(frozen=True)
class UnknownId:
    """An id in a label file that the data set does not declare."""

    file: str
    id: int
    pixels: int


@dataclass(frozen=True)
class Classes:
    """Class frequencies over a number of label files.

    labels: files counted. share: class -> percent of the pixels with a class of the run. frames: class -> files that
    show it.
    """

    labels: int
    share: Mapping[str, float]
    frames: Mapping[str, int]


@dataclass(frozen=True)
class DataReport:
    """Report on one data set of a run.

    name: source, target or evaluation. reader: class name of the reader.
    frames: number of frames. opened: number of frames that were opened. pairs: number of frames with a label file.
    sizes: 'height x width' -> opened frames. ignored: raw id without a class in the run -> pixels in the opened frames.
    unknown: ids that the data set does not declare. classes: class frequencies, None without labels.
    """

    name: str
    reader: str = ""
    frames: int = 0
    opened: int = 0
    pairs: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[int, int] = field(default_factory=dict)
    unknown: tuple[UnknownId, ...] = ()
    classes: Classes | None = None
    problems: tuple[Problem, ...] = ()

    def facts(self) -> list[tuple[str, str]]:
        """Return the lines of the text report, as (title, value)."""
        facts = [("frames", f"{self.frames}, of these opened {self.opened}")]
        if self.pairs:
            facts.append(("labels", f"{self.pairs}"))
        if self.sizes:
            facts.append(("height x width", _counts(self.sizes)))
        if self.ignored:
            facts.append(("ids without a class", _counts(self.ignored, " px")))
        if self.unknown:
            result: dict[int, int] = {}
            for item in self.unknown:
                result[item.id] = result.get(item.id, 0) + item.pixels
            facts.append(("unknown ids", _counts(result, " px")))
        return facts


def _counts(counts: Mapping[Any, int], unit: str = "", most: int = 8) -> str:
    shown = sorted(counts.items(), key=lambda item: -item[1])
    text = ", ".join(f"{what}: {count}{unit}" for what, count in shown[:most])
    return text + (f" and {len(shown) - most} more" if len(shown) > most else "")


def works(reports: Sequence[DataReport]) -> bool:
    """Return whether training could work on all checked data sets: no problem is fatal."""
    return not any(problem.fatal for report in reports for problem in report.problems)


def require(report: DataReport) -> None:
    """Raise ValueError with the first fatal problem and the command that lists all of them."""
    for problem in report.problems:
        if problem.fatal:
            raise ValueError(f"{report.name} data: {problem.text} (to check all of it: blda check-data CONFIG)")


def warnings_of(report: DataReport) -> list[str]:
    """Return the text lines of the problems that are not fatal."""
    warnings = replace(report, problems=tuple(problem for problem in report.problems if not problem.fatal))
    return _problems(warnings).splitlines()


def as_json(reports: Sequence[DataReport]) -> dict[str, Any]:
    """Return the reports as plain numbers, strings, lists and mappings."""
    return {"works": works(reports), "data": {report.name: asdict(report) for report in reports}}


def as_text(reports: Sequence[DataReport]) -> str:
    """Format the facts of every data set, a table of the classes, and the problems with their fixes."""
    blocks = [_facts(report) for report in reports if report.frames]
    blocks += _table([(report.name, report.classes) for report in reports if report.classes is not None])
    blocks += [_problems(report) for report in reports if report.problems]
    fatal = sum(problem.fatal for report in reports for problem in report.problems)
    others = sum(len(report.problems) for report in reports) - fatal
    verdict = "training could not work" if fatal else "training can start"
    return "\n\n".join([*blocks, f"{verdict} (errors: {fatal}, warnings: {others})"])


def _facts(report: DataReport) -> str:
    lines = [f"{report.name} ({report.reader})" if report.reader else report.name]
    return "\n".join(lines + [f"  {what:<22}{value}" for what, value in report.facts()])


def _table(columns: Sequence[tuple[str, Classes]]) -> list[str]:
    if not columns:
        return []
    head = "".join(f"{f'{name}: % of pixels':>28}{f'in of {result.labels}':>12}" for name, result in columns)
    lines = [f"{'class':<16}{head}"]
    for name in columns[0][1].share:
        cells = "".join(f"{result.share[name]:>28.3f}{result.frames[name]:>12}" for _, result in columns)
        lines.append(f"{name:<16}{cells}")
    return ["\n".join(lines)]


def _problems(report: DataReport) -> str:
    kinds = dict.fromkeys((problem.fatal, problem.kind) for problem in report.problems)
    lines = []
    for fatal, kind in sorted(kinds, reverse=True):
        texts = [problem.text for problem in report.problems if (problem.fatal, problem.kind) == (fatal, kind)]
        word = "error" if fatal else "warning"
        lines += [f"{word}: {report.name}: {text}" for text in texts[:SHOWN]]
        if len(texts) > SHOWN:
            lines.append(f"{word}: {report.name}: {len(texts) - SHOWN} more of this kind ({kind}); see all with --json")
    return "\n".join(lines)
