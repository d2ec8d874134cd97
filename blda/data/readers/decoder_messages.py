"""Capture of the messages that image libraries write to the error stream while they decode."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

_LOCK = threading.Lock()


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
            kept, stream = os.dup(2), _file()
        except OSError:
            yield lines
            return
        with stream:
            os.dup2(stream.fileno(), 2)
            try:
                yield lines
            finally:
                os.dup2(kept, 2)
                os.close(kept)
                stream.seek(0)
                lines += stream.read().decode(errors="replace").splitlines()


def _file() -> BinaryIO:
    """Open a file without a name, in memory where the system supports it."""
    return os.fdopen(os.memfd_create("messages"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()
