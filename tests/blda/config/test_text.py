"""Text that people write, in the encodings of their editors."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

import pytest

from blda.config import loading as configfile
from blda.config.data_schema import Data
from blda.data.readers.class_folders import ClassFolders
from blda.data.readers.frames import read_split
from blda.text import read_lines, read_text
from layouts import save_image

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_marked_text_is_read_right(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("straße/0000\r\n\r\n# 路\r\nb c/1\r\n".encode(encoding))
    assert read_split(path) == ("straße/0000", "b c/1")
    path.write_bytes("on_error: skip  # 路\n".encode(encoding))
    assert configfile.load(path, Data).on_error == "skip"


@pytest.mark.parametrize("data", ["run: straße".encode("latin-1"), "run: a".encode("utf-16-le"), b"run: \x00"])
def test_other_encodings_are_named_with_the_fix(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"# first\n" + data)
    for read in (lambda: configfile.load(path, Data), lambda: read_text(path)):
        with pytest.raises(ValueError, match=r"a\.yaml is not text in UTF-8 \(line [12]\); save it as UTF-8"):
            read()


def test_a_list_names_files_by_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"stra\xdfe\rb\r\nc\xe2\x80\xa8d")
    assert read_lines(tmp_path / "list.txt", any_bytes=True) == [os.fsdecode(b"stra\xdfe"), "b", "c\u2028d"]


def test_a_list_in_utf_16_without_a_mark_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("drive/0000\n".encode("utf-16-le"))
    with pytest.raises(ValueError, match=r"list\.txt is not text in UTF-8"):
        read_split(tmp_path / "list.txt")


def test_a_listing_of_classes_with_a_mark(tmp_path: Path) -> None:
    save_image(tmp_path / "any/a.png")
    (tmp_path / "list.txt").write_bytes(codecs.BOM_UTF8 + b"any/a.png 1\r\n")
    (frame,) = ClassFolders(tmp_path, ("x", "y"), listing=tmp_path / "list.txt").frames
    assert frame.name == "any/a"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*nothing\.txt \(No such file"):
        read_text(tmp_path / "nothing.txt")


def test_a_path_of_any_bytes_is_kept_in_a_config(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("on_error: skip")
    value = os.fsdecode(b"/data/stra\xdfe")
    found = configfile.load(tmp_path / "a.yaml", Data, [f"cache={value}"])
    assert found.cache == value
    configfile.save(found, tmp_path / "b.yaml")
    assert configfile.load(tmp_path / "b.yaml", Data) == found


def test_an_image_is_no_config(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("on_error: skip")
    save_image(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg' is neither key=value nor a config file \(\.yaml\)"):
        configfile.load(tmp_path / "a.yaml", Data, [str(tmp_path / "a.jpg")])
