"""Rooms: what each may import, by one table that its `__init__.py` repeats, and that a fresh process obeys."""

from __future__ import annotations

import ast
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEAVES = {
    *("blda", "blda.atomic", "blda.cache_folders", "blda.code_version"),
    *("blda.lazy_names", "blda.spelling", "blda.text"),
}
"""Everyone may import these; they import nothing of the project, but for the packages' own lazy names."""

IMAGE: dict[str, set[str]] = {
    "blda.data": set(),
    "blda.config": set(),
    "blda.models": {"blda.data"},
    "blda.balance": {"blda.data", "blda.models"},
    "blda.engine": {"blda.data"},
    "blda.selftraining": {"blda.data", "blda.models", "blda.balance"},
    "blda.calibration": {"blda.data", "blda.balance", "blda.engine"},
}
IMAGE["blda.build"] = set(IMAGE)
IMAGE["blda.deploy"] = set(IMAGE)
VIDEO: dict[str, set[str]] = {
    "blda_video.config": {"blda.config"},
    "blda_video.flow": {"blda.config", "blda.data", "blda.models"},
    "blda_video.clips": {"blda_video.flow", "blda.data"},
    "blda_video.propagation": {"blda_video.clips", "blda_video.flow", "blda.data", "blda.selftraining"},
    "blda_video.smoothed_statistics": {"blda_video.propagation", "blda.balance", "blda.data"},
    "blda_video.temporal_metrics": {"blda_video.clips", "blda_video.flow", "blda.data"},
    "blda_video.stream": {
        *("blda_video.clips", "blda_video.flow", "blda_video.propagation"),
        *("blda.data", "blda.engine", "blda.balance", "blda.calibration"),
    },
    "blda_video.street_world": {
        "blda_video.config",
        "blda_video.clips",
        "blda_video.flow",
        "blda.config",
        "blda.data",
    },
}
VIDEO["blda_video.build"] = {*VIDEO, *IMAGE}
VIDEO["blda_video.jobs"] = {*VIDEO, *IMAGE}
VIDEO["blda_video.commands"] = {*VIDEO, *IMAGE}
ROOMS = {**IMAGE, **VIDEO}
"""Room -> the rooms that it may import, from the ground floor up."""
PAIRS = [(a, b) for a, b in product(ROOMS, ROOMS) if a != b]


def room_of(module: str) -> str:
    """The room of a module: a folder or file below its package, or a leaf."""
    return ".".join(module.split(".")[:2])


def modules() -> dict[str, Path]:
    """All modules of both packages by name, packages' own files too."""
    found = {}
    for package in ("blda", "blda_video"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, known: dict[str, Path]) -> set[str]:
    """The project's modules that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; name the module whole"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in names]
        found |= {name for name in names if name.split(".")[0] in ("blda", "blda_video")}
    return found


@pytest.fixture(scope="module")
def arrows() -> dict[tuple[str, str], list[str]]:
    """(room, room) -> the imports from the first to the second, as text."""
    known, found = modules(), {}
    for name, path in known.items():
        for other in imported(path, known):
            if room_of(name) != room_of(other):
                found.setdefault((room_of(name), room_of(other)), []).append(f"{name} -> {other}")
    return found


@pytest.mark.parametrize(("room", "other"), PAIRS, ids=lambda room: room)
def test_a_room_imports_only_what_the_table_says(arrows, room: str, other: str) -> None:
    assert other in ROOMS[room] or (room, other) not in arrows, arrows[room, other]


def test_every_module_has_a_room_and_leaves_import_nothing(arrows) -> None:
    assert {room_of(name) for name in modules()} - LEAVES - {"blda_video"} == set(ROOMS)
    leaving = {text for (room, _), texts in arrows.items() for text in texts if room in {*LEAVES, "blda_video"}}
    assert leaving == {f"{package} -> blda.lazy_names" for package in ("blda", "blda_video")}


def test_the_table_has_no_circle_and_names_only_rooms_below() -> None:
    below: set[str] = set()
    for room, others in ROOMS.items():
        assert others <= below, room
        below.add(room)
    assert not any(other.startswith("blda_video") for others in IMAGE.values() for other in others)


@pytest.mark.parametrize("room", [room for room in ROOMS if (ROOT / room.replace(".", "/")).is_dir()])
def test_a_room_says_what_it_may_import(room: str) -> None:
    text = ast.get_docstring(ast.parse((ROOT / room.replace(".", "/") / "__init__.py").read_text(encoding="utf-8")))
    rule = text.split("\n\n")[1]
    assert rule.startswith("It may import")
    for other in ROOMS[room]:
        short = other.split(".")[1]
        assert f"`{short}`" in rule or "every room" in rule or f"the {short}" in rule, other
    if not ROOMS[room]:
        assert "no other room" in rule


def test_a_fresh_process_loads_rooms_from_the_ground_floor_up() -> None:
    """Whatever an import loads, directly or not, lies in a room below; the library loads no tool."""
    order = {room: [name for name in modules() if room_of(name) == room] for room in ROOMS}
    code = f"""
import importlib, sys
loaded = set({sorted(LEAVES)!r}) | {{"blda_video"}}
for room, names in {order!r}.items():
    loaded.add(room)
    for name in names:
        if not name.endswith((".cuda", ".mmflow")) and "triton" not in name:
            importlib.import_module(name)
    here = {{".".join(name.split(".")[:2]) for name in sys.modules if name.split(".")[0] in ("blda", "blda_video")}}
    assert here <= loaded, (room, here - loaded)
print([name for name in ("tools", "train_video", "evaluate") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_files_are_found_by_their_name() -> None:
    """No two files of the packages, the benchmarks and the tests bear one name."""
    folders = ("blda", "blda_video", "benchmarks", "tests")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if path.name != "__init__.py"]
    names = [path.name for path in paths]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_importing_blda_is_quick_and_its_public_names_exist() -> None:
    code = "import sys, blda; assert 'torch' not in sys.modules; [getattr(blda, name) for name in blda.__all__]"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
