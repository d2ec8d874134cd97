"""Arguments and one-line errors of the commands."""

from __future__ import annotations

import os

# Before torch starts its threads: as soon as a loader or another program needs a core, threads that spin at barriers
# make two cores 40 times slower than one (docs/log.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import re
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def parser(doc: str) -> argparse.ArgumentParser:
    """Build a parser whose help is the command's docstring."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names may hold any bytes
    return _ExampleFirst(prog=_program(), description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


class _ExampleFirst(argparse.ArgumentParser):
    """Parser whose help begins with the description, which begins with examples, and ends with the options."""

    def format_help(self) -> str:
        formatter = self._get_formatter()
        formatter.add_text(self.description)
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        for group in self._action_groups:
            formatter.start_section(group.title)
            formatter.add_text(group.description)
            formatter.add_arguments(group._group_actions)
            formatter.end_section()
        return formatter.format_help()


def _program() -> str | None:
    """Return `blda COMMAND` when that was typed, None for a file's own name."""
    return f"blda {sys.argv[1]}" if os.path.basename(sys.argv[0]) == "blda" and len(sys.argv) > 1 else None


def add_overrides(arguments: argparse.ArgumentParser, of: str = "config") -> None:
    """Add the positional arguments key=value that replace keys of a config."""
    arguments.add_argument("overrides", nargs="*", metavar="key=value", help=f"replaces a key of the {of}")


def parse(arguments: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line `argv`, or the process's own; key=value may stand before and after options."""
    return arguments.parse_intermixed_args(argv)


@contextmanager
def one_line_errors(*config: str) -> Iterator[None]:
    """End with exit code 1 and one line for errors a user can fix; show a traceback only for our own mistakes.

    config: the config's file and its overrides, which complete the commands that a message recommends.
    """
    try:
        with _deaf_after_errors():
            yield
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        text = _message(error)
        if os.environ.get("BLDA_TRACEBACK") or text is None:
            raise
        sys.exit(f"error: {completed(text, *config)}")


@contextmanager
def _deaf_after_errors() -> Iterator[None]:
    """Ignore the end of processes from the first error on.

    torch raises an error wherever the main process is when it hears of a loader process's end. That may be after the
    first error of the same end, a lost connection, and must not take the place of its line.
    """
    try:
        yield
    except Exception:
        if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():  # Windows has none
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        raise


def _message(error: Exception) -> str | None:
    """Return an error's one line, None for a mistake of this project."""
    from blda.engine.foreign_errors import in_one_line, last_line
    from blda.engine.trainer import TrainingStopped

    return last_line(error) if isinstance(error, TrainingStopped) else in_one_line(error)


def completed(message: str, *config: str) -> str:
    """Insert the given config into a message's recommended commands `blda COMMAND CONFIG`."""
    return re.sub(r"\b(blda [a-z-]+) CONFIG\b", rf"\1 {shlex.join(config) or 'CONFIG'}", message)
