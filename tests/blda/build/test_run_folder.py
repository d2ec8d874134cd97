"""A run owns its folder: one at a time, taken over from the dead, and known by its identity."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from blda.build import run_folder
from blda.config.data_schema import Evaluation, Source, Target
from blda.config.schema import Config, Model, Optimizer


def _dead() -> int:
    """A process that was and is no more."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def _config(**keys) -> Config:
    part = {"name": "x"}
    return Config("run", Model(part, part), Source(part), Target(part), Evaluation(part), **keys)


def test_a_second_owner_is_refused_until_the_first_lets_go(tmp_path):
    with run_folder.claimed(tmp_path):
        alive = rf"alive \(process {os.getpid()} on .*run=ANOTHER_FOLDER"
        with pytest.raises(ValueError, match=alive), run_folder.claimed(tmp_path):
            pass
        assert (tmp_path / run_folder.CLAIM).exists()
    assert not (tmp_path / run_folder.CLAIM).exists()
    with run_folder.claimed(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named_with_the_fix(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file/run"):
        with (
            pytest.raises(ValueError, match=r"cannot make the folder .*file.* set run=ANOTHER"),
            run_folder.claimed(folder),
        ):
            pass


def test_one_of_many_threads_wins(tmp_path):
    """At once, over the claim of a dead process."""
    (tmp_path / run_folder.CLAIM).write_text(json.dumps({**run_folder.this_process(), "process": _dead()}))
    start, stop, won = threading.Barrier(8), threading.Barrier(8), []

    def attempt() -> None:
        start.wait()
        try:
            with run_folder.claimed(tmp_path):
                won.append(1)
                stop.wait()
        except ValueError:
            stop.wait()

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [1]


@pytest.mark.parametrize("stale", ["gone", "another of its number", "of another machine", "half a file"])
def test_the_claim_of_a_dead_process_is_taken_over_in_one_line(tmp_path, stale, caplog):
    claim, me = tmp_path / run_folder.CLAIM, run_folder.this_process()
    if me["started"] is None and stale == "another of its number":
        pytest.skip("this system does not say when a process started")
    content = {
        "gone": {**me, "process": _dead()},
        "another of its number": {**me, "started": "1"},
        "of another machine": {**me, "host": "elsewhere"},
        "half a file": {},
    }[stale]
    claim.write_text(json.dumps(content) if content else '{"proc')
    draft = tmp_path / f".step_000001.pt.{_dead()}"
    draft.write_bytes(b"half a checkpoint")
    if stale in ("of another machine", "half a file"):
        with pytest.raises(ValueError, match="is alive"), run_folder.claimed(tmp_path):
            pass
        os.utime(claim, (1e9, 1e9) if stale == "half a file" else (4e9, 4e9))  # long ago, or by a clock that is wrong
    with caplog.at_level(logging.WARNING), run_folder.claimed(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [run_folder.CLAIM]
    assert len(caplog.records) == 1


def test_a_requeued_slurm_job_takes_its_own_claim_over_at_once(tmp_path, monkeypatch):
    """Its first start was on another machine, which died."""
    claim = tmp_path / run_folder.CLAIM
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    claim.write_text(json.dumps({**run_folder.this_process(), "host": "elsewhere"}))
    with pytest.raises(ValueError, match="is alive"), run_folder.claimed(tmp_path):
        pass  # another step of the same start
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with run_folder.claimed(tmp_path):
        assert json.loads(claim.read_text())["restarts"] == "1"
    claim.write_text(json.dumps({**run_folder.this_process(), "host": "elsewhere", "job": "16", "restarts": "0"}))
    with pytest.raises(ValueError, match="is alive"), run_folder.claimed(tmp_path):
        pass  # another job


def test_identity_follows_the_run_its_seed_and_its_experiment(tmp_path):
    first, config = tmp_path / "a", _config(seed=1)
    run_folder.begin(first, config)
    known = run_folder.identity(first, config)
    assert known == run_folder.identity(first, config)
    longer = dataclasses.replace(config, optimizer=Optimizer(lr=1.0), compare=("source_only",))
    assert run_folder.identity(first, longer) == known
    other = run_folder.identity(first, _config(seed=2, classes=("a", "b")))
    assert {key for key in known if known[key] != other[key]} == {"seed", "settings"}
    second = tmp_path / "b"
    run_folder.begin(second, config)
    assert run_folder.identity(second, config)["run"] != known["run"]
    assert "run" not in run_folder.identity(Path(tmp_path / "older version"), config)


def test_a_key_that_a_later_version_adds_leaves_the_identity_as_it_was(tmp_path):
    later = dataclasses.make_dataclass("Later", [("new", int, 3)], bases=(Config,), frozen=True)
    now = _config(seed=1, classes=("a", "b"))
    same = later(**{field.name: getattr(now, field.name) for field in dataclasses.fields(now)})
    assert run_folder.experiment(same) == run_folder.experiment(now)
    assert run_folder.experiment(dataclasses.replace(same, new=4)) != run_folder.experiment(now)
    deeper = dataclasses.replace(now, source=dataclasses.replace(now.source, crop=(3, 4)))
    assert run_folder.experiment(deeper) != run_folder.experiment(now)
