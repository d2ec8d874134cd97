"""Run the whole test suite on this machine's CPU, in the background."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from blda.engine.runtime import cores
from gpu import pytests
from gpu.report import Report, settings

WORKERS = 8


def main() -> None:
    given = settings(__doc__)
    report = Report("suite", given)
    workers = min(WORKERS, cores())
    arguments = ["tests/blda/balance/test_gaussian_mixture.py"] if given.rehearse else []
    if find_spec("xdist") and workers > 1 and not given.rehearse:
        arguments += ["-n", str(workers)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    if not (Path(os.environ.get("BLDA_SHARED", "nowhere")) / "golden").is_dir():
        environment["BLDA_SHARED"] = str(given.work / "nowhere")  # tests of recorded values then skip
    report.put("suite", pytests.run(arguments, report, environment))


if __name__ == "__main__":
    main()
