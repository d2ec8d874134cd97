"""What image libraries write to the error stream while they decode, caught to be said with the file's name."""

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
    """Lines written to the error stream of the process inside; they are in the list at the end, and nowhere else.

    libjpeg knows no other way to say that the coded pixels are damaged. One thread at a time; where the stream cannot
    be exchanged, nothing is caught and all is shown as it comes.
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
    process = os.getpid()
    if process not in _FILES:
        if hasattr(os, "memfd_create"):
            _FILES[process] = os.memfd_create("messages")
        else:
            _FILES[process], path = tempfile.mkstemp()
            os.unlink(path)
    return _FILES[process]
