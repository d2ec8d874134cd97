"""The log of a run whose file was damaged goes on from the lines that are whole."""

from __future__ import annotations

import json
from pathlib import Path

from blda.engine.run_log import RunLog, read_log


def test_damaged_lines_are_left_out_and_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = [{"step": 1, "train/loss": 0.1}, {"step": 2, "train/loss": 1e-7}, {"step": 3}]
    lines = [json.dumps(record).encode() for record in whole]
    path.write_bytes(b"\n".join([lines[0], b"\xff\x00", b"3", b"[1]", b"{}", lines[1], lines[2], b'{"step": 1, "tr']))
    assert list(read_log(path)) == whole
    RunLog(tmp_path, ("road",), main=True, bar=False).resume(2)
    assert path.read_bytes() == b"".join(line + b"\n" for line in lines[:2])
