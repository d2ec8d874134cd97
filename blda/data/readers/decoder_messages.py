"""What image libraries write to the error stream while they decode, caught to be said with the file's name."""

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
    """Lines written to the error stream of the process inside; they are in the list at the end, and nowhere else.

    libjpeg knows no other way to say that the coded pixels are damaged. One thread at a time; where the stream cannot
    be exchanged, nothing is caught and all is shown as it comes.
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
    """A file without a name, in memory where the system can."""
    return os.fdopen(os.memfd_create("messages"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()
