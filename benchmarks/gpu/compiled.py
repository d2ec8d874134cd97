"""Measure a training step under torch.compile, in a part of its own because compiling takes minutes."""

from __future__ import annotations

from gpu.report import Report, settings, usable
from gpu.steps import COMPILED, GROUPS, turns


def main() -> None:
    given = settings(__doc__)
    report = Report("steps", given)
    if usable(report):
        name = "daformer bf16 blda"
        cases = COMPILED if not given.rehearse else {name: GROUPS["daformer bf16"][1][name]}
        report.measure("turns: compiled", lambda: turns(cases, report))


if __name__ == "__main__":
    main()
