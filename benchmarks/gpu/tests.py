"""The kernels against the CPU's, then all tests that need a GPU (pytest -m cuda)."""

from __future__ import annotations

import os

from gpu import agreement, pytests
from gpu.report import Report, settings, usable


def main() -> None:
    given = settings(__doc__)
    report = Report("tests", given)
    if not usable(report):
        return
    tests = 5 if given.rehearse else 30
    for name, make in agreement.cases(given.rehearse):
        report.measure(f"kernels: {name}", lambda make=make: agreement.compared(make(), given.device), needs=tests)
    agreed = {name: found["agrees"] for name, found in report.results.items() if name.startswith("kernels: ")}
    report.put(
        "kernels", {"agree": sum(agreed.values()), "of": len(agreed), "not": [n for n, a in agreed.items() if not a]}
    )
    # A rehearsal skips them, as any machine without a GPU does.
    files = ["tests/blda_video/propagation/test_rules.py"] if given.rehearse else []
    report.put("gpu_tests", pytests.run(["-m", "cuda", *files], report, dict(os.environ)))


if __name__ == "__main__":
    main()
