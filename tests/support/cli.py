"""The commands and benchmarks as a user types them, in this process."""

from __future__ import annotations

import contextlib
import io
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from blda_video.commands.main import main

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "tools"
DOORS = {path.stem for path in TOOLS.glob("*.py")}


def tool(name: str, *arguments: object) -> None:
    """Run tools/NAME.py, or the command `blda NAME`, to its end."""
    if name not in DOORS:
        main([name, *map(str, arguments)])
        return
    _script(TOOLS / f"{name}.py", arguments)


def benchmark(name: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run benchmarks/NAME.py to its end: exit code, output and errors, as of a process of its own."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            _script(ROOT / "benchmarks" / f"{name}.py", arguments)
        except SystemExit as stopped:
            code = stopped.code
            if isinstance(code, str):
                print(code, file=err)
                code = 1
    return subprocess.CompletedProcess([name, *arguments], int(code or 0), out.getvalue(), err.getvalue())


def _script(path: Path, arguments: Sequence[object]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [path.name, *map(str, arguments)])
        runpy.run_path(str(path), run_name="__main__")


def exit_of(name: str, *arguments: object) -> str | int | None:
    """Return a tool's exit code, or the line of its error."""
    try:
        tool(name, *arguments)
    except SystemExit as stopped:
        return stopped.code
    return 0


def error_of(name: str, *arguments: object) -> str:
    """The one line that a tool which must fail ends with."""
    message = str(exit_of(name, *arguments))
    assert message.startswith("error: ")
    assert "\n" not in message
    return message
