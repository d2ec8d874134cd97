"""blda compute-flow as a user types it: filling a store, checking it, and the street world's own flow."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from blda_video.config import WorldSpec
from blda_video.flow.dis import DIS
from blda_video.street_world.world_writer import make
from cli import exit_of

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "compute_flow.py"


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> Path:
    """A target world with exact flow."""
    root = tmp_path_factory.mktemp("flow") / "city"
    for split, sequences in (("train", 2), ("val", 1)):
        make(WorldSpec(root, "cityscapes_seq", "target", split, sequences, 5, (32, 64), flow=True), progress=False)
    return root


def _options(city: Path, flow: str) -> list[str]:
    part = "{name: cityscapes_seq, root: " + str(city) + ", key_frames: all, split: "
    return [
        str(ROOT / "configs" / "viper2csseq.yaml"),
        f"target.reader={part}train}}",
        f"evaluation.reader={part}val}}",
        f"flow={flow}",
        "consistency=[-1]",
    ]


def test_fill_check_damage_mend(city, tmp_path, capsys):
    flow = f"{{name: store, root: {tmp_path}, estimator: {{name: dis, preset: fast}}}}"
    options = _options(city, flow)
    assert exit_of("compute_flow", *options) == 0
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["estimator"] == "dis-fast" and manifest["offsets"] == [-1] and manifest["size"] == [32, 64]
    capsys.readouterr()
    assert exit_of("compute_flow", *options, "--check") == 0
    shown = capsys.readouterr()
    assert shown.out == "" and "18 flows needed, 0 missing, 0 faulty" in shown.err

    files = sorted(tmp_path.rglob("*.npz"))
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:100])
    assert exit_of("compute_flow", *options, "--check") == 1
    missing, fault = capsys.readouterr().out.splitlines()
    assert f"1 of 18 flows are missing, the first {files[0]}" in missing
    assert "blda compute-flow" in missing and "CONFIG" not in missing and str(files[1]) in fault
    files[1].unlink()
    assert exit_of("compute_flow", *options) == 0
    assert exit_of("compute_flow", *options, "--check") == 0


def test_other_estimator_or_offset_than_the_store(city, tmp_path):
    options = _options(city, f"{{name: store, root: {tmp_path}, estimator: dis-ultrafast}}")
    assert exit_of("compute_flow", *options) == 0
    other = _options(city, f"{{name: store, root: {tmp_path}, estimator: raft-large}}")
    for more in ((), ("--check",)):
        assert "was made with 'dis-ultrafast', not 'raft-large'; use another folder" in exit_of(
            "compute_flow", *other, *more
        )
    found = exit_of("compute_flow", *options, "--check", "offsets=[-1, -2]")
    assert "was computed for offsets -1, not -2" in found and "blda compute-flow " in found
    assert exit_of("compute_flow", *options, "offsets=[-1, -2]") == 0
    assert exit_of("compute_flow", *options, "--check", "offsets=[-1, -2]") == 0
    live = _options(city, "{name: dis}")
    assert "set flow={name: store" in exit_of("compute_flow", *live)
    unnamed = _options(city, f"{{name: store, root: {tmp_path}}}")
    assert "flow.estimator is missing" in exit_of("compute_flow", *unnamed)


def test_the_street_worlds_own_flow_is_a_store(city):
    options = _options(city, f"{{name: store, root: {city / 'flow'}, estimator: exact}}")
    assert exit_of("compute_flow", *options, "--check") == 0
    assert "for offsets -1, +1, not -2" in exit_of("compute_flow", *options, "--check", "offsets=[-2]")


def test_chained_flow_needs_links_alone(city, tmp_path, capsys):
    far = ["offsets=[-4, 2]", "consistency=[-3]", "chain=1"]
    exact = _options(city, f"{{name: store, root: {city / 'flow'}, estimator: exact}}")
    assert exit_of("compute_flow", *exact, *far, "--check") == 0
    needed = capsys.readouterr().err
    assert "22 flows needed, 0 missing, 0 faulty" in needed  # four links of each of two drives, three of the third
    options = _options(city, f"{{name: store, root: {tmp_path}, estimator: dis-ultrafast}}")
    assert exit_of("compute_flow", *options, *far) == 0
    assert json.loads((tmp_path / "manifest.json").read_text())["offsets"] == [-1, 1]
    assert len(list(tmp_path.rglob("*.npz"))) == 22
    assert exit_of("compute_flow", *options, *far, "--check") == 0
    assert "chain is 0; it must be at least 1" in exit_of("compute_flow", *options, "chain=0")
    assert "chain must be int, not 'one'" in exit_of("compute_flow", *options, "chain=one")


def test_a_terminated_computation_ends_between_flows_and_is_continued(city, tmp_path, monkeypatch):
    options = _options(city, f"{{name: store, root: {tmp_path}, estimator: dis-medium}}")
    estimate = DIS.__call__

    def terminated(self, image, neighbour):
        signal.raise_signal(signal.SIGTERM)
        return estimate(self, image, neighbour)

    with monkeypatch.context() as patch:
        patch.setattr(DIS, "__call__", terminated)
        assert exit_of("compute_flow", *options) == "stopped by SIGTERM after 2 flows; the same command continues"
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 3  # with the manifest
    assert exit_of("compute_flow", *options) == exit_of("compute_flow", *options, "--check") == 0


def test_a_killed_computation_leaves_whole_files_and_is_continued(city, tmp_path):
    options = _options(city, f"{{name: store, root: {tmp_path}, estimator: dis-medium}}")
    process = subprocess.Popen([sys.executable, str(TOOL), *options], stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.rglob("*.npz")):
        time.sleep(0.001)
    process.kill()
    process.wait(60)
    # A draft, which has a hidden name, may stay; no reader looks at it.
    for path in (path for path in tmp_path.rglob("*.npz") if not path.name.startswith(".")):
        assert np.load(path)["flow"].shape == (2, 32, 64)
    assert exit_of("compute_flow", *options) == exit_of("compute_flow", *options, "--check") == 0
