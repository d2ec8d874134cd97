"""Text files that people write: UTF-8 with or without a byte order mark, UTF-16 and UTF-32 with one."""

from __future__ import annotations

import codecs
from pathlib import Path

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks; that of UTF-32 begins with that of UTF-16."""


def read_text(path: Path, any_bytes: bool = False) -> str:
    """The text of a file.

    any_bytes: keep bytes that are not UTF-8 as Python keeps them in file names, so that a list can name any file.
    ValueError naming the file, the line and the fix for another encoding, and for a file that cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path} ({error.strerror}); check the disk and the permissions") from error
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding, "surrogateescape" if any_bytes and encoding == "utf-8" else "strict")
    except UnicodeDecodeError as error:
        raise ValueError(_other_encoding(path, data.count(b"\n", 0, error.start) + 1)) from error
    if "\0" in text:
        raise ValueError(_other_encoding(path, text.count("\n", 0, text.index("\0")) + 1))
    return text


def read_lines(path: Path, any_bytes: bool = False) -> list[str]:
    """The lines of a text file, as `read_text`; only \\n, \\r\\n and \\r end one, for names may hold other breaks."""
    return read_text(path, any_bytes).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def is_utf8(text: str) -> bool:
    """Tell whether a text holds no byte that was not UTF-8 in its file or in a file's name."""
    return not any("\udc80" <= letter <= "\udcff" for letter in text)


def to_bytes(text: str) -> bytes:
    """UTF-8 of any text, file names with any bytes included."""
    return text.encode("utf-8", "surrogateescape")


def _other_encoding(path: Path, line: int) -> str:
    return (
        f"{path} is not text in UTF-8 (line {line}); save it as UTF-8, for example with: "
        "iconv -f latin1 -t utf-8 OLD > NEW"
    )
