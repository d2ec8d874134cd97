"""A training step under torch.compile, in a part of its own and the report of the others: to compile takes minutes."""

from __future__ import annotations

from gpu.report import Report, settings, usable
from gpu.steps import CASES, COMPILED, measured


def main() -> None:
    given = settings(__doc__)
    report = Report("steps", given)
    if usable(report):
        cases = COMPILED if not given.rehearse else {"daformer bf16 blda": CASES["daformer bf16 blda"]}
        for name, case in cases.items():
            report.measure(name, lambda case=case: measured(case, given))


if __name__ == "__main__":
    main()
