"""Capture of the messages that image libraries write to the error stream while they decode."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()
_FILES: dict[int, int] = {}
"""Process -> its file without a name that takes the place of the error stream; a forked child needs its own."""


@contextmanager
def caught() -> Iterator[list[str]]:
    """Capture the lines that are written to the error stream of the process inside the context.

    The yielded list is filled at the end; nothing is shown on the terminal. libjpeg reports damaged pixels in no other
    way. One thread captures at a time. Where the stream cannot be redirected, nothing is captured and messages are
    shown as they come.
    """
    lines: list[str] = []
    with _LOCK:
        try:
            kept, file = os.dup(2), _file()
        except OSError:
            yield lines
            return
        os.dup2(file, 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            if length := os.lseek(file, 0, os.SEEK_END):
                lines += os.pread(file, length, 0).decode(errors="replace").splitlines()
                os.ftruncate(file, 0)
                os.lseek(file, 0, os.SEEK_SET)


def _file() -> int:
    """Descriptor of a file without a name, in memory where the system supports it."""
    process = os.getpid()
    if process not in _FILES:
        if hasattr(os, "memfd_create"):
            _FILES[process] = os.memfd_create("messages")
        else:
            _FILES[process], path = tempfile.mkstemp()
            os.unlink(path)
    return _FILES[process]
