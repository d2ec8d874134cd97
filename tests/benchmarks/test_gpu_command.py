"""benchmarks/gpu.sh: its rehearsal runs every part on a CPU, and what it decides by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from blda.config import loading
from blda_video.jobs.kinds import of_run
from gpu import agreement, contracts, profile, pytests, steps, training
from gpu.__main__ import HERE, LEAST, LIMITS, LISTED, TOTAL
from gpu.report import DEVICE_LOST, Report, Settings
from gpu.summary import goals

ROOT = Path(__file__).parents[2]


def settings(folder: Path, seconds: float = 100) -> Settings:
    """Return the settings of a rehearsed part."""
    return Settings(folder, time.time() + seconds, True, folder, None, HERE / "rehearsed.yaml")


def rehearsed(folder: Path, *options: str) -> dict[str, dict]:
    """Run the command in a rehearsal, and return what it writes, by file."""
    command = ["bash", str(ROOT / "benchmarks" / "gpu.sh"), "--rehearse", str(folder), *options]
    done = subprocess.run(
        command, env={**os.environ, "PYTHON": sys.executable}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "logs.tar.gz").stat().st_size
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_a_rehearsed_part_writes_what_it_measured(tmp_path):
    found = rehearsed(tmp_path, "--parts", "cost")
    assert found.keys() == {"cost", "summary"}
    results, parts = found["cost"]["results"], found["summary"]["parts"]
    assert parts["cost"] | {"seconds": 0} == {"seconds": 0, "exit": 0, "cut_off": False}
    assert found["cost"]["failed"] == {}
    assert {"evidence", "fit", "alignment", "loss and gradient"} <= results["phases"].keys()
    first = results["x".join(map(str, (2, 5, 32, 48)))]["mixed"]
    assert first["queued_balanced_ms"] > 0
    assert first["kernels"]["launches"] > 0


@pytest.mark.slow
def test_the_rehearsal_runs_every_part(tmp_path):
    found = rehearsed(tmp_path)
    assert found.keys() == {*LISTED, "summary"}
    assert all(report["failed"] == {} for name, report in found.items())
    ended = {name: (part.get("exit"), part.get("cut_off")) for name, part in found["summary"]["parts"].items()}
    assert ended.pop("compiled") == (None, None)
    assert set(ended.values()) == {(0, False)}, ended
    kernels = found["tests"]["results"]["kernels"]
    assert kernels["agree"] == kernels["of"] > 15
    assert found["suite"]["results"]["suite"]["counts"] == {"passed": 7}
    assert set().union(*steps.TOYS.values()) <= found["steps"]["results"].keys()
    processes = found["contracts"]["results"]["processes"]
    assert all(processes[f"two_processes_{mode}"]["within_tolerance"] is True for mode in ("image", "video"))
    assert all(found["contracts"]["results"][f"resume {mode}"]["resumed"]["bit_for_bit"] for mode in ("image", "video"))
    runs = found["training"]["results"]["runs"]
    assert all(run["to_the_end"] for run in runs.values())
    assert "gain_over_source_only" in found["training"]["results"]["means"]["tiny/blda"]


def test_the_parts_leave_time_to_training():
    assert sum(LIMITS[name] for name in ("tests", "cost", "contracts", "steps")) <= TOTAL - LEAST
    assert LIMITS["worlds"] < LIMITS["tests"]
    assert TOTAL < 7.5 * 60


CASES = {name: case for _, cases in steps.GROUPS.values() for name, case in cases.items()} | steps.COMPILED


@pytest.mark.parametrize("name", CASES)
def test_every_case_of_a_step_is_a_config(name):
    case = CASES[name]
    path = ROOT / "configs" / f"{case.config}.yaml"
    variants = [str(ROOT / "configs" / "variants" / f"{variant}.yaml") for variant in case.variants]
    kind, _ = of_run(path, case.overrides)
    config = loading.load(path, kind, [*variants, *case.overrides])
    assert hasattr(config, "offsets") == name.startswith("video")
    assert config.method in name
    assert (config.model.hrda is not None) == name.startswith(("hrda", "mic"))
    assert config.training.cuda_graphs == name.endswith("graphs")


def test_a_case_that_fails_leaves_the_others_alone(tmp_path):
    good = steps.Case("gta2cs", ("method=source_only", "training.precision='no'"))
    report = Report("steps", settings(tmp_path))
    steps.turns({"good": good, "graphs on a CPU": steps.Case("gta2cs", (steps.FLOAT, steps.GRAPHS))}, report)
    assert "training.cuda_graphs: the device is cpu" in report.failed["graphs on a CPU"][-1]
    assert report.results["good"]["step_s"] > 0


@pytest.mark.parametrize("name", ["trainings.yaml", "trainings_short.yaml", "rehearsed.yaml"])
def test_every_training_is_a_config_of_images_of_one_size(name):
    listed = yaml.safe_load((HERE / name).read_text())
    for each in listed["trainings"].values():
        path = ROOT / "configs" / each["config"]
        for method in each["methods"]:
            kind, _ = of_run(path, each["overrides"])
            config = loading.load(path, kind, [*each["overrides"], *listed["common"], f"method={method}"])
            assert config.source.crop == config.target.crop
            assert getattr(config, "offsets", ()) == ()


def test_runs_share_the_time_and_the_last_seeds_go_first(tmp_path):
    def runs(seconds: float) -> list[training.Run]:
        made = []
        for seed in (0, 1, 2):
            for method in ("source_only", "blda"):
                folder = tmp_path / f"{seconds}" / f"{seed}{method}"
                folder.mkdir(parents=True)
                (folder / training.PACE).write_text(json.dumps({"seconds_per_step": seconds}))
                made.append(training.Run("a", method, seed, [], folder))
        return made

    steps = {"least": 100, "most": 1000}
    assert training.fitting(many := runs(0.1), steps, 50) == (450, many)
    assert training.fitting(many := runs(0.001), steps, 50) == (1000, many)
    count, fewer = training.fitting(runs(0.5), steps, 50)
    assert {run.seed for run in fewer} == {0, 1}
    assert count == 135
    count, fewer = training.fitting(runs(50), steps, 50)
    assert {run.seed for run in fewer} == {0}
    assert count == 2
    assert training.fitting([], steps, 50) == (1, [])


def test_a_report_goes_on_behind_what_it_holds_and_says_what_it_left_out(tmp_path, capsys):
    report = Report("a", settings(tmp_path))
    report.measure("one", lambda: {"x": float("nan")})
    report.measure("two", lambda: 1 / 0)
    report.measure("three", lambda: 3, needs=1000)

    def too_large() -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    report.measure("four", too_large)
    kept = json.loads((tmp_path / "a.json").read_text())
    assert kept["results"] == {"one": {"x": None}}
    assert kept["failed"]["two"][-1] == "ZeroDivisionError: division by zero"
    assert "1000" in kept["skipped"]["three"]
    assert "Tried to allocate 2 GiB" in kept["skipped"]["four"]
    assert capsys.readouterr().out.count("\n") == 4
    again = Report("a", settings(tmp_path))
    again.measure("one", lambda: pytest.fail("measured twice"))
    again.measure("two", lambda: pytest.fail("failed before"))
    again.measure("four", lambda: 4)
    assert json.loads((tmp_path / "a.json").read_text())["results"]["four"] == 4


def test_a_lost_device_ends_the_process_with_its_own_code(tmp_path):
    code = f"""
from pathlib import Path
from gpu.report import Report, Settings
report = Report("a", Settings(Path({str(tmp_path)!r}), 1e12, True, Path("."), None, Path(".")))
def lost(): raise RuntimeError("CUDA error: an illegal memory access was encountered")
report.measure("one", lost)
report.put("two", 2)
"""
    path = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=False)
    assert done.returncode == DEVICE_LOST
    kept = json.loads((tmp_path / "a.json").read_text())
    assert kept["failed"].keys() == {"one"}
    assert kept["results"] == {}


def test_a_wrong_kernel_is_found(monkeypatch):
    device = torch.device("cpu")
    name, make = next(agreement.cases(True))
    assert agreement.compared(make(), device)["agrees"], name
    real, calls = agreement.balanced_cross_entropy, []

    def wrong(*arguments: object) -> torch.Tensor:
        calls.append(arguments)
        return real(*arguments) * (1.001 if len(calls) == 1 else 1)

    monkeypatch.setattr(agreement, "balanced_cross_entropy", wrong)
    found = agreement.compared(make(), device)
    assert not found["agrees"]
    assert "loss" in found["wrong"]


def test_half_a_line_of_a_cut_off_pytest_is_left_out(tmp_path):
    path = tmp_path / "lines.jsonl"
    row = {"test": "a::b", "outcome": "failed", "seconds": 1.0, "message": "no"}
    path.write_text(json.dumps(row) + "\n" + json.dumps(row)[:20])
    found = pytests.summary(path)
    assert found["counts"] == {"failed": 1}
    assert found["failed"] == {"a::b": "no"}


def test_goals_that_were_not_measured_are_not_met():
    assert {goal["met"] for goal in goals({}).values()} == {None}
    cost = {"2x19x512x512": {"mixed": {"queued_more_ms": 1.5, "extra_MB": 120.0}}}
    found = goals({"cost": {"results": cost}})
    assert found["balanced loss, 2x19x512x512: 2 ms beyond plain cross-entropy"]["met"] is True
    assert found["balanced loss, 2x19x512x512: 100 MB beyond plain cross-entropy"]["met"] is False


def test_a_wait_is_named_by_our_own_line():
    assert profile.waits(lambda: None, torch.device("cpu")) == {}
    assert "test_gpu_command.py" in profile._place()


def test_states_are_compared_by_their_named_part():
    one = {"student/a": torch.zeros(2), "optimizer/b": torch.ones(2)}
    other = {**one, "student/a": torch.tensor([0.0, 0.5])}
    assert contracts.compared(one, one) == {"bit_for_bit": True, "tensors": 2, "largest_difference": {}}
    assert contracts.compared(one, other)["largest_difference"] == {"student": 0.5}
