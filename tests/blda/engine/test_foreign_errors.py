"""Errors of files, processes and the system become one line with a fix; our own mistakes keep their traceback."""

from __future__ import annotations

import errno
import multiprocessing
import pickle
import re
import zipfile
import zlib

import pytest
import torch

from blda.engine.foreign_errors import in_one_line

WORKER = "Caught {0} in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File x\n{0}: {1}"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("one\nFile: two"), "one"),
        (ValueError(WORKER.format("ValueError", "cannot read a.png")), "cannot read a.png"),
        (MemoryError(WORKER.format("numpy._core._exceptions._ArrayMemoryError", "no 9 GiB")), "no 9 GiB"),
        (OSError(errno.ENOSPC, "No space left on device", "run/a.pt"), "run/a.pt: No space.*make room"),
        (OSError(errno.EROFS, "Read-only file system", "x"), "x: Read-only.*can be written"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "x: Permission denied.*permissions"),
        (FileNotFoundError("no config at x"), "no config at x"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."), "memory ran out.*--resume"),
        (RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly"), "training.workers"),
        (RuntimeError("Too many open files. Communication with"), "ulimit"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "training.batch"),
        (RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer"), "another process.*--resume"),
        (ConnectionResetError(104, "Connection reset by peer"), "a loader process was ended.*--resume"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), "room on the disk"),
        (zipfile.BadZipFile("File is not a zip file"), "damaged"),
        (zlib.error("Error -3"), "damaged"),
        (EOFError(), "damaged"),
        (ModuleNotFoundError("No module named 'av.x'", name="av.x"), "pip install av"),
    ],
    ids=repr,
)
def test_foreign_errors_are_one_line_with_a_fix(error: Exception, said: str) -> None:
    text = in_one_line(error)
    assert text is not None
    assert "\n" not in text
    assert re.search(said, text), text


KILLED = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")


def test_the_end_of_a_loader_process_is_told_from_behind_other_errors() -> None:
    """torch reports it wherever the main process is: while it writes a file, or inside another library's function."""
    error: Exception = KILLED
    for outer in (SystemError("<method 'x'> returned a result with an exception set"), ValueError("cannot read a.png")):
        try:
            try:
                raise error
            except Exception as inner:
                raise outer from inner
        except Exception as raised:
            error = raised
        assert in_one_line(error).startswith("a loader process was ended"), error


def test_the_end_of_a_connection_to_a_loader_process_is_no_damaged_file() -> None:
    here, there = multiprocessing.Pipe()
    there.close()
    with pytest.raises(EOFError) as caught:
        here.recv()
    assert in_one_line(caught.value).startswith("a loader process was ended")


def test_refused_pickles_come_without_unsafe_advice() -> None:
    advice = "Weights only load failed. Re-running `torch.load` with `weights_only` set to `False` will likely succeed"
    assert "weights_only" not in in_one_line(pickle.UnpicklingError(advice))


@pytest.mark.parametrize(
    "error",
    [
        TypeError("f() takes 1"),
        KeyError("a"),
        AssertionError(),
        RuntimeError("shape mismatch"),
        ImportError("cannot import name 'x' from 'blda'", name="blda"),
    ],
    ids=repr,
)
def test_mistakes_of_our_own_keep_their_traceback(error: Exception) -> None:
    assert in_one_line(error) is None
