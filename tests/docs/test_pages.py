"""All that the pages name exists: files, folders, functions, tests, config keys, links and their anchors."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib
import re
import runpy
import typing
from functools import cache
from pathlib import Path

import pytest

from blda.config.classification import ClassifyConfig
from blda_video.config import VideoConfig
from pages import PAGES, ROOT, anchors, blocks, prose

FOLDERS = ("benchmarks", "blda", "blda_video", "configs", "docs", "examples", "tests", "tools")
INVENTED = {
    "blda/data/readers/drone.py",
    "blda_video/propagation/average_rule.py",
    "configs/variants/mine.yaml",
}
"""Files that the reader of a page is asked to write."""

ENDINGS = ["bin", "json", "jsonl", "md", "npy", "npz", "pt", "pth", "py", "safetensors", "sh", "toml", "yaml"]
"""Endings of file names, which are no keys of a config."""

_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./-]*")
_MEMBERS = re.compile(r"`([\w/]+\.py)`:\s+((?:`[\w.]+`(?:, | and )?)+)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@cache
def files_by_name() -> dict[str, list[Path]]:
    """All source files of the project by their bare names."""
    found: dict[str, list[Path]] = {}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            found.setdefault(path.name, []).append(path)
    return found


@cache
def defined(path: Path) -> set[str]:
    """Names that a file defines at its top, and members of its classes as Class.member and member."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for name in _names(node):
            names.add(name)
        if isinstance(node, ast.ClassDef):
            members = [name for member in node.body for name in _names(member)]
            names |= {*members, *(f"{node.name}.{member}" for member in members)}
    return names


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


@each_page
def test_files_and_folders_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = {path.rstrip("./-") for path in _PATH.findall(text)} - INVENTED
    assert sorted(path for path in named if not (ROOT / path).exists()) == []
    bare = {code for code in _CODE.findall(prose(text)) if re.fullmatch(r"\w+\.py", code)}
    assert sorted(name for name in bare if name not in files_by_name()) == []


@each_page
def test_functions_that_a_page_names_are_in_the_file_beside_them(page: Path) -> None:
    missing = []
    for file, members in _MEMBERS.findall(page.read_text(encoding="utf-8")):
        paths = [ROOT / file] if "/" in file else files_by_name().get(file, [])
        known = set().union(*(defined(path) for path in paths if path.is_file()))
        missing += [f"{file}: {name}" for name in _CODE.findall(members) if name not in known]
    assert missing == []


@each_page
def test_tests_that_a_page_names_exist(page: Path) -> None:
    missing = []
    for file, name in re.findall(r"`(\w+)::(\w+)`", page.read_text(encoding="utf-8")):
        paths = files_by_name().get(f"test_{file}.py", [])
        known = set().union(*(defined(path) for path in paths))
        if f"test_{name}" not in known:
            missing.append((f"{file}::{name}", "like", difflib.get_close_matches(f"test_{name}", known, 2)))
    assert missing == []


@each_page
def test_modules_and_config_keys_that_a_page_names_exist(page: Path) -> None:
    dotted = {code for code in _CODE.findall(prose(page.read_text(encoding="utf-8"))) if "." in code}
    wrong = []
    whole = set(filter(re.compile(r"[a-z_]+(\.\w+)+").fullmatch, dotted))
    given = {key for code in dotted for key in re.findall(r"(?<![\w./-])([a-z_]+(?:\.\w+)+)(?==|: )", code)}
    for name in sorted(whole | given):
        if name.split(".")[-1] in ENDINGS:
            continue
        first = name.split(".")[0]
        keys = first in {f.name for kind in (VideoConfig, ClassifyConfig) for f in dataclasses.fields(kind)}
        if (keys or first in ("blda", "blda_video")) and not (is_key(name) or is_attribute(name)):
            wrong.append(name)
    assert wrong == []


def is_key(name: str) -> bool:
    """Tell whether a dotted name is a config's key, down to a component's keywords that only its constructor knows."""
    keys = [key for key in name.split(".") if not key.isdigit()]  # source.1.share: of the second of a list
    return any(_has(kind, keys) for kind in (VideoConfig, ClassifyConfig))


def _has(kind: typing.Any, keys: list[str]) -> bool:
    if not keys:
        return True
    options = [kind, *typing.get_args(kind)]
    classes = [option for option in options if dataclasses.is_dataclass(option)]
    if not classes:
        return any(option is dict or typing.get_origin(option) is dict for option in options)
    return any(keys[0] in (hints := typing.get_type_hints(each)) and _has(hints[keys[0]], keys[1:]) for each in classes)


def is_attribute(name: str) -> bool:
    """Tell whether a dotted name is a module of the project or something in one."""
    parts = name.split(".")
    if parts[0] not in ("blda", "blda_video"):
        return False
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@each_page
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    dead = []
    for link in _LINK.findall(prose(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            dead.append(link)
    assert dead == []


def test_the_tree_shows_files_that_exist_and_every_room() -> None:
    (tree,) = blocks((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), "text")
    shown, folders = set(), []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names, *_ = re.split(r"\s{2,}", line.strip())
        inner = re.findall(r"\w+\.py", line.split("/ ", 1)[-1]) if names.endswith("/") else []
        for name in names.split(" "):
            folders[depth:] = [name] if name.endswith("/") else []
            shown.add(Path(*folders[:depth], name))
        shown |= {Path(*folders, name) for name in inner}
    assert sorted(str(path) for path in shown if not (ROOT / path).exists()) == []
    rooms = {
        path.parent.relative_to(ROOT)
        for package in ("blda", "blda_video")
        for path in (ROOT / package).rglob("__init__.py")
    }
    assert sorted(str(room) for room in rooms if room not in shown) == []


def test_the_table_of_rooms_says_what_the_test_of_imports_allows() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = {row.split("`")[1].removesuffix(".py"): row for row in re.findall(r"^\| `blda.*\|$", text, re.MULTILINE)}
    rooms = runpy.run_path(str(ROOT / "tests" / "test_rooms.py"))["ROOMS"]
    wrong = []
    for room, others in rooms.items():
        allowed = rows[room.replace(".", "/")].split("|")[3]
        names = {name.split(".")[-1] for name in others}
        said = {name.split("/")[-1] for name in _CODE.findall(allowed)} - {"blda"}
        if "every room" not in allowed and said != names:
            wrong.append((room, sorted(said ^ names)))
    assert wrong == []


def test_modules_that_the_change_log_leads_to_exist() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    new = re.findall(r"^\| `blda.*\| `(blda[\w.]+)` \|$", text, re.MULTILINE)
    assert len(new) > 100
    paths = [ROOT / name.replace(".", "/") for name in new]
    assert [str(path) for path in paths if not path.with_suffix(".py").is_file() and not path.is_dir()] == []
