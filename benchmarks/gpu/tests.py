"""Compare kernels with the CPU's and run all tests that need a GPU (pytest -m cuda), side by side."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from gpu import agreement, pytests
from gpu.report import Report, settings, usable
from runs import ROOT


def main() -> None:
    given = settings(__doc__)
    report = Report("tests", given)
    if not usable(report):
        return
    # A rehearsal skips them, as any machine without a GPU does.
    files = ["tests/blda_video/propagation/test_rules.py"] if given.rehearse else of_gpu()
    with ThreadPoolExecutor(1) as beside:
        marked = beside.submit(pytests.run, ["-m", "cuda", *files], report, dict(os.environ))
        for name, make in agreement.cases(given.rehearse):
            report.measure(f"kernels: {name}", lambda make=make: agreement.compared(make(), given.device), needs=3)
        report.measure("gpu_tests", marked.result)
    agreed = {name: found["agrees"] for name, found in report.results.items() if name.startswith("kernels: ")}
    report.put(
        "kernels", {"agree": sum(agreed.values()), "of": len(agreed), "not": [n for n, a in agreed.items() if not a]}
    )


def of_gpu() -> list[str]:
    """List the files with tests that need a GPU; collecting all files would take as long as these tests."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if "mark.cuda" in file.read_text(encoding="utf-8")]


if __name__ == "__main__":
    main()
