"""Files that are there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

LONGEST_NAME = 255
"""Bytes of a file name, on most file systems."""


def write(path: Path, fill: Callable[[BinaryIO], object] | str) -> None:
    """Write a text, or what `fill` writes, under a draft's name, then put it in place at once.

    An interruption leaves the old file or none, never half of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(_draft(path.name))
    try:
        with draft.open("wb") as file:
            if isinstance(fill, str):
                file.write(fill.encode())
            else:
                fill(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _draft(name: str) -> str:
    """Name of a file's draft, which must not be longer than file systems allow either."""
    if len(os.fsencode(name)) > LONGEST_NAME - 16:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return f".{name}.{os.getpid()}"


def finite(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """Numbers as JSON knows them: what is none, or has no end, is null."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def write_numbers(path: Path, numbers: Mapping[str, float], **metadata: str) -> None:
    """Write named numbers as JSON, after what is said of all of them."""
    write(path, json.dumps({**metadata, **finite(numbers)}, indent=1))
