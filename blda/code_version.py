"""Version of this code, which checkpoints and results carry, and the refusal of files of another major version."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = "blda-video"
KEYS = ("version", "commit")
_ROOT = Path(__file__).parents[1]


@cache
def code_version() -> dict[str, str]:
    """Return the package's version, and the git commit where the code is a checkout; what is unknown is left out.

    A commit ends in -dirty when tracked files differ from it.
    """
    found = {"version": _version(_ROOT), "commit": _commit(_ROOT)}
    return {name: text for name, text in found.items() if text}


def require_same_major(path: Path, written: Mapping[str, Any]) -> None:
    """Raise ValueError naming the file and both versions if another major version wrote it.

    written: what the file says of its code, under KEYS; empty for files of versions that did not say.
    """
    theirs, ours = str(written.get("version", "")), code_version().get("version", "")
    if theirs and ours and _major(theirs) != _major(ours):
        commit = f", commit {written['commit']}" if written.get("commit") else ""
        raise ValueError(
            f"{path} was written by version {theirs} of {PACKAGE}{commit}, and this is version {ours}; "
            f"use a version {_major(theirs)}.x for it"
        )


def _major(version: str) -> str:
    return version.partition(".")[0]


def _version(root: Path) -> str:
    """Return the version of a checkout's pyproject.toml, or else of the installed package."""
    try:
        project = (root / "pyproject.toml").read_text(encoding="utf-8")
    except OSError:
        project = ""
    if f'name = "{PACKAGE}"' in project and (found := re.search(r'^version = "(.+)"$', project, re.MULTILINE)):
        return found[1]
    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return ""


def _commit(root: Path) -> str:
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
