"""Digests of a data set's files: they find damage that decoders do not notice, such as a flipped bit in a JPEG."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from blda import atomic, text
from blda.data.readers.frames import Frame


def files_of(frames: Iterable[Frame]) -> list[Path]:
    """List the image and label files of frames, each once, in order."""
    return list(dict.fromkeys(path for frame in frames for path in (frame.image, frame.label) if path is not None))


def digest(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal. Raises ValueError when it cannot be read."""
    try:
        found = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(2**20):
                found.update(block)
        return found.hexdigest()
    except OSError as error:
        raise ValueError(f"cannot read {path} ({error.strerror}); check the disk and the permissions") from error


def compare(listing: Path, files: Iterable[Path], threads: int = 4) -> tuple[int, list[str]]:
    """Compare files with the digests of an earlier call, and add the digests of new files.

    listing: text file in the format of `sha256sum`, created if missing. threads: files read at a time.
    Returns the number of compared files, and one line for each file that differs; its old digest is kept.
    """
    noted = dict(_read(listing)) if listing.is_file() else {}
    paths = [Path(path).absolute() for path in files]
    with ThreadPoolExecutor(threads) as pool:
        found = list(tqdm(pool.map(digest, paths), "digests", len(paths), disable=None, unit="file", leave=False))
    now = dict(zip(map(str, paths), found, strict=True))
    faults = [
        f"{path} is not the file it was when {listing} was written; copy it again, or cut its line"
        for path, value in now.items()
        if noted.get(path, value) != value
    ]
    lines = (_line(value, path) for path, value in {**now, **noted}.items())
    atomic.write(listing, lambda file: file.writelines(map(text.to_bytes, lines)))
    return len(now.keys() & noted.keys()), faults


def _line(value: str, path: str) -> str:
    r"""A line of sha256sum: it marks names with \n or \\ in them by a \\ in front and writes these as \n and \\\\."""
    if "\n" not in path and "\\" not in path:
        return f"{value}  {path}\n"
    escaped = path.replace("\\", "\\\\").replace("\n", "\\n")
    return f"\\{value}  {escaped}\n"


def _read(listing: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.read_lines(listing, any_bytes=True), 1):
        value, _, path = line.removeprefix("\\").partition("  ")
        if line.startswith("\\"):
            path = re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], path)
        if line and (len(value) != 64 or not path):
            raise ValueError(
                f"line {number} of {listing} is not a digest and a path in the format of sha256sum; delete the file"
            )
        if line:
            yield path, value
