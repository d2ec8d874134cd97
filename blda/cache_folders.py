"""Folders for caches of libraries where neither the home nor the code's own folder can be written."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from functools import cache
from pathlib import Path

_LOG = logging.getLogger(__name__)


@cache
def temporary_folder(library: str) -> Path | None:
    """A folder for a library's cache below the temporary one, this user's alone; None where there is none. Said once.

    Its name is always the same, so that the next run finds what this one compiled. As caches hold code, a folder that
    another user could have filled is not taken.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"blda-{library}-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
    except OSError:
        state = None
    if state is None or not stat.S_ISDIR(state.st_mode) or _of_others(state, user) or not writable(folder):
        _LOG.warning("no folder can be written for the cache of %s: it works without, and starts more slowly", library)
        return None
    _LOG.warning("the cache of %s is kept in %s, as its usual folder cannot be written", library, folder)
    return folder


def _of_others(state: os.stat_result, user: int) -> bool:
    return hasattr(os, "getuid") and (state.st_uid != user or bool(state.st_mode & 0o022))


def writable(folder: Path) -> bool:
    """Tell whether files can be made in a folder, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
