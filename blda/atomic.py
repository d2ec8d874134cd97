"""Files that are there whole or not at all, and files of tensors that carry a digest of themselves."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

LONGEST_NAME = 255
"""Bytes of a file name, on most file systems."""
SEAL = b"\nsha256 of all bytes before: "
"""At the end of a file of tensors, before 64 hexadecimal digits and a line break; readers of zip files skip it."""
_LENGTH = len(SEAL) + 65
_DRAFT = re.compile(r"\..+\.(\d+)$")


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
    except OSError as error:  # which may not say of which file
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        draft.unlink(missing_ok=True)


def _draft(name: str) -> str:
    """Name of a file's draft, which must not be longer than file systems allow either."""
    if len(os.fsencode(name)) > LONGEST_NAME - 16:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return f".{name}.{os.getpid()}"


def sweep(folder: Path) -> list[Path]:
    """Delete the drafts in a folder whose processes are gone; those of other machines as well: call it as the owner."""
    found = [path for path in folder.glob(".*") if (draft := _DRAFT.match(path.name)) and not alive(int(draft[1]))]
    for path in found:
        path.unlink(missing_ok=True)
    return found


def alive(process: int) -> bool:
    """Tell whether a process of this machine is there."""
    if process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it is another user's
        return True
    return True


class _Hashing:
    """A file that is hashed while it is written, and that remembers the error that torch's writer hides."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest, self.error = file, hashlib.sha256(), None

    def write(self, data: bytes) -> int:
        try:
            self.digest.update(data)
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def write_tensors(path: Path, content: Any) -> None:
    """Write what `torch.save` can, with a digest of all its bytes at the end; whole or not at all."""
    import torch

    def fill(file: BinaryIO) -> None:
        hashing = _Hashing(file)
        try:
            torch.save(content, hashing)
        except RuntimeError as error:
            raise hashing.error or error from error
        file.write(SEAL + hashing.digest.hexdigest().encode() + b"\n")

    write(path, fill)


def read_tensors(path: Path) -> Any:
    """Tensors, numbers, texts and containers of a file, on the CPU; no code is unpickled.

    ValueError saying what is wrong, without the file's name, for a damaged file and for any other. A file of an older
    version has no digest: the checksums of its parts are verified.
    """
    import torch

    check_digest(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what is no pickle can raise anything, with advice that is not safe
        refused = re.search(r"GLOBAL (\S+)", str(error))
        held = f"it holds more than tensors, numbers and texts ({refused[1]})" if refused else "it holds no tensors"
        raise ValueError(held) from error


def has_digest(path: Path) -> bool:
    """Tell whether a file ends in a digest of itself."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LENGTH))
        return file.read().startswith(SEAL)


def check_digest(path: Path) -> None:
    """ValueError, without the file's name, when a file's bytes are not those that were written."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LENGTH))
            seal = file.read()
            if not seal.startswith(SEAL):
                _check_parts(file)
                return
            file.seek(0)
            digest, left = hashlib.sha256(), size - _LENGTH
            while left and (part := file.read(min(left, 2**20))):
                digest.update(part)
                left -= len(part)
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror or error})") from error
    if seal != SEAL + digest.hexdigest().encode() + b"\n":
        raise ValueError("its bytes are not those that were written")


def _check_parts(file: BinaryIO) -> None:
    """ValueError when a zip file is damaged, or has a damaged digest behind its end."""
    file.seek(0)
    if not file.read(4).startswith(b"PK"):
        return
    file.seek(-22, os.SEEK_END)
    if file.read(4) != b"PK\5\6":
        raise ValueError("its end is missing or damaged")
    try:
        with zipfile.ZipFile(file) as archive:
            wrong = archive.testzip()
    except Exception as error:  # zipfile raises many types
        raise ValueError(f"it is no whole zip file ({error})") from error
    if wrong:
        raise ValueError(f"the checksum of its part {wrong} is wrong")


def finite(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """Numbers as JSON knows them: what is none, or has no end, is null."""
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


def write_numbers(path: Path, numbers: Mapping[str, float], **metadata: str) -> None:
    """Write named numbers as JSON, after what is said of all of them."""
    write(path, json.dumps({**metadata, **finite(numbers)}, indent=1))
