"""Walk over folders: for images, labels, videos, frames to predict and saved logits."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from blda.data.readers.remarks import remark

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".jp2")
"""Of images in common formats."""
_NO_DATA = {
    "system volume information",
    *[
        "@eadir",
        "@recycle",
        "#recycle",
        "#snapshot",
        "__macosx",
        "$recycle.bin",
        "lost+found",
        "thumbs",
        "thumbnails",
        "__pycache__",
    ],
}
"""Folders, in small letters, that storage devices, systems and viewers add to everyone's data."""


def is_left_out(name: str) -> bool:
    """Return whether a file or folder of this name is never data: hidden, a thumbnail folder, a waste bin."""
    return name.startswith(".") or name.casefold() in _NO_DATA


def files_below(folder: str | os.PathLike[str], fix: str, deep: bool = True) -> list[str]:
    """List all files below a folder: relative, forward slashes, in no order.

    Leaves out hidden files and names of `is_left_out`. Follows links, but lists each folder once, under its own name
    rather than a link's. deep: include subfolders. Raises ValueError naming a subfolder that cannot be listed,
    FileNotFoundError for a broken link to a folder, both with the fix.
    """
    result: list[str] = []
    seen: dict[tuple[int, int], str] = {_identity(os.fspath(folder)): os.fspath(folder)}
    real, links = [""], []
    while real or links:
        prefix, linked = (real.pop(), False) if real else (links.pop(0), True)
        path = os.path.join(folder, prefix[:-1]) if prefix else os.fspath(folder)
        if prefix and not _is_new(path, linked, seen):
            continue
        for entry in _listed(path):
            if is_left_out(entry.name):
                continue
            if _is_folder(entry):
                (links if entry.is_symlink() else real).append(f"{prefix}{entry.name}/") if deep else None
            elif "." not in entry.name and entry.is_symlink() and not os.path.exists(entry.path):
                # Left out, the frames of a folder that is gone would be, silently.
                raise FileNotFoundError(
                    f"no folder {entry.path} (a link to {os.readlink(entry.path)}, which is not there); {fix}"
                )
            else:
                result.append(prefix + entry.name)
    return result


def ends_in(name: str, suffix: str) -> bool:
    """Return whether a file name ends in a suffix; the case of letters after the last dot is ignored."""
    stem, dot, kind = suffix.rpartition(".")
    ending = name[len(name) - len(suffix) :]
    return ending[: len(stem)] == stem and ending[len(stem) :].lower() == f"{dot}{kind}".lower()


def with_suffixes(files: Iterable[str], suffixes: Collection[str]) -> list[str]:
    """Return the files that end in one of the suffixes."""
    return [file for file in files if any(ends_in(file, suffix) for suffix in suffixes)]


def matches(file: str, pattern: str) -> bool:
    """Return whether a relative path matches a pattern such as 'day/*.mp4' or '**/*.mp4'; ** is any folders."""
    return _parts_match(file.split("/"), pattern.split("/"))


def _parts_match(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_parts_match(parts[skip:], patterns[1:]) for skip in range(len(parts) + 1))
    if not parts:
        return False
    one, other = (_small_suffix(text) if len(parts) == 1 else text for text in (parts[0], patterns[0]))
    return fnmatchcase(one, other) and _parts_match(parts[1:], patterns[1:])


def _small_suffix(name: str) -> str:
    stem, dot, kind = name.rpartition(".")
    return f"{stem}{dot}{kind.lower()}"


def other_images(files: Iterable[str], suffix: str) -> Counter[str]:
    """Count, by suffix, the images that end in another suffix than the wanted one.

    An image with a twin of the wanted suffix is not counted.
    """
    taken, others = set(), []
    for file in files:
        stem, dot, kind = file.rpartition(".")
        if ends_in(file, suffix):
            taken.add(file[: -len(suffix)])
        elif (
            f"{dot}{kind}".lower() in IMAGE_SUFFIXES and f"{dot}{kind}".lower() != PurePosixPath(suffix).suffix.lower()
        ):
            others.append((stem, f"{dot}{kind}"))
    return Counter(kind for stem, kind in others if stem not in taken)


def as_stored(path: Path) -> Path:
    """Return the path, or that of an existing file beside it whose suffix differs only in case."""
    if path.is_file() or not path.suffix:
        return path
    kinds = (path.suffix.lower(), path.suffix.upper(), path.suffix.capitalize())
    return next((result for kind in kinds if (result := path.with_suffix(kind)).is_file()), path)


def _is_new(path: str, linked: bool, seen: dict[tuple[int, int], str]) -> bool:
    identity = _identity(path)
    first = seen.setdefault(identity, path)
    if first == path:
        return True
    if linked:
        remark(f"folder {path} is a link to {first}, whose files count once")
    return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, which is named when it is read
        return False


def _identity(path: str) -> tuple[int, int]:
    state = os.stat(path)
    return state.st_dev, state.st_ino


def _listed(path: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return iter(list(entries))
    except OSError as error:
        raise ValueError(f"cannot list {path} ({error.strerror}); check the disk and the permissions") from error
