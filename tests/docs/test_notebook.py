"""The notebook: its commands are ones that exist, it holds no outputs, and it runs from the first cell to the last."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

import pages
from blda.config import loading
from blda_video.commands.main import COMMANDS
from blda_video.config import VideoConfig
from blda_video.jobs import shipped_configs

BOOK = json.loads((pages.ROOT / "docs" / "street_world.ipynb").read_text(encoding="utf-8"))
CODE = ["".join(cell["source"]) for cell in BOOK["cells"] if cell["cell_type"] == "code"]

SMALL_DEMO = """
base: {demo}
worlds:
  - {{root: data/world/viper, layout: viper, look: source, split: train, sequences: 3, frames: 2, seed: 1}}
  - {{root: data/world/city, layout: cityscapes_seq, look: target, split: train, sequences: 1, frames: 4, seed: 2}}
  - {{root: data/world/city, layout: cityscapes_seq, look: target, split: val, sequences: 1, frames: 3, seed: 7,
      labelled: [1]}}
data: {{on_unseen: warn}}
training: {{workers: 0}}
"""


def in_python(cell: str) -> str:
    """A cell with its shell lines as calls of `shell`, and without IPython's own commands."""
    lines = [line for line in cell.splitlines() if not line.startswith("%")]
    return "\n".join(f"shell(f{line[1:]!r})" if line.startswith("!") else line for line in lines)


def names_of(cells: list[str]) -> dict[str, object]:
    """Constants that cells assign, such as RUN and STEPS."""
    names: dict[str, object] = {}
    for cell in cells:
        for line in re.findall(r"^[A-Z_]+ = .*$", cell, re.MULTILINE):
            exec(line, names)
    return names


def commands() -> list[list[str]]:
    """The words of every shell line, with values in place of names."""
    names = names_of(CODE)
    lines = [line[1:] for cell in CODE for line in cell.splitlines() if line.startswith("!")]
    return [shlex.split(eval(f"f{line!r}", dict(names))) for line in lines]


class Parsed(Exception):
    """Raised in place of a command's work, once its arguments are read."""


@contextmanager
def _stop(*_: str):
    raise Parsed
    yield


def test_it_holds_no_outputs_and_its_cells_are_python() -> None:
    assert BOOK["nbformat"] == 4
    ids = [cell["id"] for cell in BOOK["cells"]]
    assert len({*ids}) == len(ids)
    for cell in BOOK["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None
    for cell in CODE:
        ast.parse(in_python(cell))


@pytest.mark.parametrize("words", commands(), ids=lambda words: words[1])
def test_every_command_exists_and_takes_these_arguments(words: list[str], monkeypatch) -> None:
    program, name, *arguments = words
    assert program == "blda" and name in COMMANDS
    module = importlib.import_module(f"blda_video.commands.{name.replace('-', '_')}")
    monkeypatch.setattr(module, "one_line_errors", _stop)
    with pytest.raises(Parsed):
        module.main(arguments)


def test_its_run_is_one_of_the_demos() -> None:
    (train,) = (words[2:] for words in commands() if words[1] == "train")
    config = loading.load(shipped_configs.found(train[0]), VideoConfig, train[1:])
    assert config.training.steps == names_of(CODE)["STEPS"] == 700
    assert 0 < config.self_training.burn_in < 700
    assert config.compare == ("source_only", "self_training")


@pytest.mark.slow
def test_it_runs_from_the_first_cell_to_the_last(tmp_path: Path, monkeypatch) -> None:
    """On small worlds and for 20 steps; the shell is this interpreter's `blda`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").write_text(
        SMALL_DEMO.format(demo=shipped_configs.found("demo"))
    )  # comes before the shipped one
    shown: list[object] = []
    display = ModuleType("IPython.display")
    display.Image = display.Video = lambda path, **_: Path(path).read_bytes()
    display.display = shown.append
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setenv("PYTHONPATH", str(pages.ROOT))

    def shell(line: str) -> None:
        program, *arguments = shlex.split(line)
        assert program == "blda"
        subprocess.run([sys.executable, "-m", "blda_video.commands.main", *arguments], check=True)

    names: dict[str, object] = {"shell": shell}
    for cell in CODE:
        exec(compile(in_python(cell.replace("STEPS = 700", "STEPS = 20")), "notebook", "exec"), names)
    assert [type(each) for each in shown[:3]] == [bytes] * 3 and all(shown[:3])
    assert shown[-1].width >= names["prediction"].labels.shape[1]
    assert len(names["prediction"].classes) == 19
