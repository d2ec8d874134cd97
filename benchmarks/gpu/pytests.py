"""Run pytest in its own process and record the result of each test; also the plugin that records them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from gpu.report import Report
from runs import ROOT

LINES = "GPU_TEST_LINES"
"""Environment variable: the file to which the plugin adds a line of JSON for every test."""
SLOWEST = 10


def run(arguments: list[str], report: Report, environment: dict[str, str]) -> dict[str, object]:
    """Counts by outcome, names and messages of failures, reasons of skips; of the tests that ran in time."""
    lines = report.given.work / f"{report.path.stem}.jsonl"
    lines.unlink(missing_ok=True)
    options = ["-q", "--tb=short", "--continue-on-collection-errors"]
    command = [sys.executable, "-m", "pytest", "-p", "gpu.pytests", *options, *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env={**environment, LINES: str(lines)})
    while process.poll() is None and report.left() > 3:
        time.sleep(0.5)
        report.put("so_far", summary(lines))
    cut = process.poll() is None
    if cut:
        process.kill()
    process.wait()
    report.drop("so_far")
    return {**summary(lines), "exit": process.returncode, "cut_off": cut}


def summary(path: Path) -> dict[str, object]:
    """Summarise the lines written so far; the last may be incomplete."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    failed = {row["test"]: row["message"] for row in rows if row["outcome"] == "failed"}
    reasons = Counter(row["message"] for row in rows if row["outcome"] == "skipped")
    slowest = sorted(rows, key=lambda row: -row["seconds"])[:SLOWEST]
    return {
        "counts": dict(Counter(row["outcome"] for row in rows)),
        "failed": failed,
        "skipped": dict(reasons),
        "slowest": {row["test"]: row["seconds"] for row in slowest},
    }


def pytest_runtest_logreport(report: object) -> None:
    """Add a test's line: its outcome, or the error in its setup or teardown. Called in the main process."""
    if "PYTEST_XDIST_WORKER" in os.environ or not (report.when == "call" or report.outcome != "passed"):
        return
    text = str(report.longrepr or "")
    if report.outcome == "skipped":
        message = str(report.longrepr[-1]) if isinstance(report.longrepr, tuple) else text
    else:
        message = text[-1500:]
    row = {"test": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 2), "message": message}
    _add(row)


def pytest_collectreport(report: object) -> None:
    """Record a file that cannot be collected as a failure, and one that skips itself as a skip."""
    if "PYTEST_XDIST_WORKER" not in os.environ and report.outcome != "passed":
        message = str(report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr)[-1500:]
        _add({"test": report.nodeid, "outcome": report.outcome, "seconds": 0.0, "message": message})


def _add(row: dict[str, object]) -> None:
    with Path(os.environ[LINES]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
