"""Arguments and one-line errors of the tools."""

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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from blda.build.training_run import train
from blda.config import loading
from blda.engine.foreign_errors import in_one_line, last_line
from blda.engine.trainer import TrainingStopped
from kinds import Kind


def parser(doc: str) -> argparse.ArgumentParser:
    """Build a parser whose help is the tool's docstring."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # file names may hold any bytes
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)


@contextmanager
def one_line_errors(*config: str) -> Iterator[None]:
    """End with exit code 1 and one line for errors a user can fix; show a traceback only for our own mistakes.

    config: the config's file and its overrides, which complete the commands that a message recommends.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        text = last_line(error) if isinstance(error, TrainingStopped) else in_one_line(error)
        if os.environ.get("BLDA_TRACEBACK") or text is None:
            raise
        sys.exit(f"error: {completed(text, *config)}")


def completed(message: str, *config: str) -> str:
    """Insert the given config into a message's recommended commands `python tools/X.py CONFIG`."""
    return re.sub(r"(python tools/\w+\.py) CONFIG\b", rf"\1 {shlex.join(config) or 'CONFIG'}", message)


def run_training(doc: str, kind_of: Callable[[Path], Kind]) -> None:
    """Run a training tool: read the config as its kind of run, train, print the table of classes."""
    arguments = parser(doc)
    arguments.add_argument("config", help="YAML file")
    arguments.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a key; or one more file")
    arguments.add_argument("--resume", action="store_true", help="continue the newest checkpoint of the run's folder")
    given = arguments.parse_intermixed_args()
    with one_line_errors(given.config, *given.overrides):
        kind, compose = kind_of(Path(given.config))
        report = train(compose, loading.load(given.config, kind, given.overrides), given.resume)
    if report:
        print(report)
