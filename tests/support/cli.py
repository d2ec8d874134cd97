"""The commands as a user types them, in this process."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from blda_video.commands.main import main

TOOLS = Path(__file__).parents[2] / "tools"
DOORS = {path.stem for path in TOOLS.glob("*.py")}


def tool(name: str, *arguments: object) -> None:
    """Run tools/NAME.py, or the command `blda NAME`, to its end."""
    if name not in DOORS:
        main([name, *map(str, arguments)])
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        runpy.run_path(str(TOOLS / f"{name}.py"), run_name="__main__")


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
