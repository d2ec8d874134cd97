"""Errors of a command: one line, whatever a loader process does while it is made."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from blda_video.commands import command_line
from blda_video.commands.command_line import one_line_errors


@pytest.fixture
def torch_reports() -> Iterator[None]:
    """The handler that torch's loaders set: an error wherever the process is when one of theirs ended."""

    def report(*_: object) -> None:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    before = signal.signal(signal.SIGCHLD, report)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="this system does not tell of the end of a process")
@pytest.mark.usefixtures("torch_reports")
@pytest.mark.parametrize(
    "first", [ConnectionResetError(104, "Connection reset by peer"), ValueError("cannot read a.png")]
)
def test_a_late_report_does_not_take_the_place_of_the_line(first, monkeypatch) -> None:
    message = command_line._message

    def late(error: Exception) -> str | None:
        os.kill(os.getpid(), signal.SIGCHLD)
        return message(error)

    monkeypatch.setattr(command_line, "_message", late)
    with pytest.raises(SystemExit) as ended, one_line_errors():
        raise first
    assert str(ended.value) == f"error: {message(first)}"


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="this system does not tell of the end of a process")
@pytest.mark.usefixtures("torch_reports")
def test_a_report_within_another_error_is_told() -> None:
    with pytest.raises(SystemExit) as ended, one_line_errors():
        try:
            raise ConnectionResetError(104, "Connection reset by peer")
        finally:
            os.kill(os.getpid(), signal.SIGCHLD)
    assert str(ended.value).startswith("error: a loader process was ended from outside")
