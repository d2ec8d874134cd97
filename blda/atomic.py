"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO


def write(path: Path, fill: Callable[[BinaryIO], object] | str) -> None:
    """Write a text, or what `fill` writes, under a draft's name, then put it in place at once.

    An interruption leaves the old file or none, never half of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
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


def finite(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """Numbers as JSON knows them: what is none, or has no end, is null."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def write_numbers(path: Path, numbers: Mapping[str, float], **said: str) -> None:
    """Write named numbers as JSON, after what is said of all of them."""
    write(path, json.dumps({**said, **finite(numbers)}, indent=1))
