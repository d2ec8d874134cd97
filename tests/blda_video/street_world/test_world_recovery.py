"""A world whose maker is killed at any moment is finished or made again by the next call, by itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blda_video.config import WorldSpec
from blda_video.street_world import world_writer
from blda_video.street_world.world_writer import ensure, make

ROOT = Path(__file__).parents[3]
KILLED = """
import os, sys, types
from blda_video.config import WorldSpec
from blda_video.street_world import world_writer

def make_until(root, left):
    def replace(source, target):
        nonlocal left
        left -= 1
        if left < 0:
            os._exit(9)  # as a kill -9: nothing is cleaned up
        os.replace(source, target)
    world_writer.os = types.SimpleNamespace(**{**vars(os), "replace": replace})
    world_writer.make(WorldSpec(root, "viper", "source", "train", 1, 2, (32, 64), flow=True), progress=False)
    os._exit(0)

for moves in range(20):
    child = os.fork()
    if child == 0:
        make_until(f"{sys.argv[1]}/{moves}/world", moves)
    if os.waitpid(child, 0)[1] == 0:
        sys.exit()
sys.exit("the world was never made")
"""
"""Makes worlds one after the other, in processes of which each is killed one move later than the one before."""


def _spec(root: Path) -> WorldSpec:
    return WorldSpec(root, "viper", "source", "train", 1, 2, (32, 64), flow=True)


def _files(root: Path) -> dict[str, bytes]:
    manifest = "flow/manifest.json"  # names the commit
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and manifest not in str(p)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("whole") / "world"
    make(_spec(root), progress=False)
    return _files(root)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_kill_at_any_move_is_mended_by_the_next_call(tmp_path: Path, whole: dict[str, bytes]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, check=True)
    killed = sorted(tmp_path.iterdir(), key=lambda folder: int(folder.name))
    assert len(killed) > 2
    for folder in killed:
        ensure(_spec(folder / "world"), progress=False)
        assert _files(folder / "world") == whole
        assert sorted(path.name for path in folder.iterdir()) == ["world"]


def test_drafts_of_dead_processes_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, alive = tmp_path / f".world-{gone.pid}-x", tmp_path / f".world-{os.getppid()}-x"
    for folder in (dead, alive):
        folder.mkdir()
    ensure(_spec(tmp_path / "world"), progress=False)
    assert (dead.exists(), alive.exists()) == (False, True)


def test_a_world_that_is_being_moved_is_left_alone(tmp_path: Path) -> None:
    spec = _spec(tmp_path / "world")
    spec.root.mkdir()
    world_writer._moving(spec).write_text(json.dumps({"from": "x", "process": os.getppid()}))
    with pytest.raises(ValueError, match="being made by process"):
        ensure(spec, progress=False)


def test_a_world_that_another_process_finishes_first_is_taken(tmp_path: Path, whole, monkeypatch) -> None:
    spec, write = _spec(tmp_path / "world"), world_writer.write

    def overtaken(*arguments: object) -> None:
        write(*arguments)
        monkeypatch.setattr(world_writer, "write", write)
        make(spec, progress=False)

    monkeypatch.setattr(world_writer, "write", overtaken)
    ensure(spec, progress=False)
    assert _files(spec.root) == whole
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


MANY = """
import sys
from blda_video.config import WorldSpec
from blda_video.street_world import world_writer
if __name__ == "__main__":
    world_writer.make(WorldSpec(sys.argv[1], "viper", "source", "train", 900, 20, (32, 64)), progress=False, workers=2)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks /proc for processes")
def test_processes_that_make_a_world_end_with_the_one_that_started_them(tmp_path):
    script = tmp_path / "many.py"
    script.write_text(MANY)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    maker = subprocess.Popen([sys.executable, str(script), str(tmp_path / "world")], env=environment)
    try:
        # All have begun once there are files.
        wait_for(lambda: next(tmp_path.rglob("*.jpg"), None), 300)
        workers = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == maker.pid]
        assert len(workers) >= 2
    finally:
        maker.send_signal(signal.SIGKILL)
        maker.wait()
    wait_for(lambda: all(_parent(pid) is None for pid in workers), 120)


def wait_for(condition, seconds: float) -> None:
    """Ask until it holds; an AssertionError after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def _parent(pid: int) -> int | None:
    """The parent of a running process; None for one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[1])
