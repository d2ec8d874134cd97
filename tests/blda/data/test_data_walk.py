"""The walk over folders: what is data, under which name, whoever looks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blda.calibration.saved_logits import SavedLogits
from blda.data.readers.class_folders import ClassFolders
from blda.data.readers.frames import natural_key, scan
from blda.data.readers.image_folder import FolderReader
from blda.data.readers.remarks import collecting
from blda.data.readers.walk import as_stored, files_below, is_left_out, matches
from layouts import save_grey, save_image

NO_DATA = (
    ".ipynb_checkpoints",
    ".trash",
    "@eaDir",
    "__MACOSX",
    ".thumbnails",
    "Thumbnails",
    "$RECYCLE.BIN",
    "lost+found",
)
NOT_UTF8 = os.fsdecode(b"stra\xdfe")


def of_folder(root: Path) -> list[str]:
    return [frame.name for frame in FolderReader(root, image_suffix=".png").frames]


def of_classes(root: Path) -> list[str]:
    return [frame.name for frame in ClassFolders(root, ("road",)).frames]


SCANNERS: dict[str, Callable[[Path], list[str]]] = {"folder": of_folder, "class folders": of_classes}


@pytest.mark.parametrize("scanner", SCANNERS)
@pytest.mark.parametrize("name", NO_DATA)
def test_what_systems_add_is_no_data(name: str, scanner: str, tmp_path: Path) -> None:
    for folder in ("road", f"road/{name}", f"road/{name}/deep", f"road/deep/{name}", name):
        save_image(tmp_path / folder / "a.png")
    save_image(tmp_path / "road/._a.png")
    assert SCANNERS[scanner](tmp_path) == ["road/a"]
    assert is_left_out(name) and not is_left_out("thumbs_up") and not is_left_out("drive.1")


def test_a_root_may_be_hidden_itself(tmp_path: Path) -> None:
    save_image(tmp_path / ".cache/data/a.png")
    assert of_folder(tmp_path / ".cache/data") == ["a"]


def test_links_count_once_under_the_name_that_is_no_link(tmp_path: Path) -> None:
    save_image(tmp_path / "elsewhere/b.png")
    save_image(tmp_path / "data/z/a.png")
    for link, end in (("data/0", "data/z"), ("data/z/up", "data"), ("data/z/self", "data/z"), ("data/y", "elsewhere")):
        (tmp_path / link).symlink_to(tmp_path / end)
    with collecting() as remarks:
        assert of_folder(tmp_path / "data") == ["y/b", "z/a"]
    assert len(remarks) == 3 and all("is a link to" in text for text in remarks)


def test_links_to_themselves_are_named(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("b.png")
    with pytest.raises(FileNotFoundError, match=r"no image .*b\.png \(a link to b\.png"):
        of_folder(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FileNotFoundError, match=r"no folder .*loop \(a link to loop"):
        of_folder(tmp_path)


def test_a_file_is_found_whatever_the_case_of_its_suffix(tmp_path: Path) -> None:
    save_grey(tmp_path / "labels/a.PNG", [0])
    save_grey(tmp_path / "labels/b.png", [0])
    for name in ("a.JPG", "b.jpg"):
        save_image(tmp_path / "images" / name)
    frames = FolderReader(tmp_path / "images", tmp_path / "labels", {0: "road"}).frames
    assert [(frame.name, frame.image.name, frame.label.name) for frame in frames] == [
        ("a", "a.JPG", "a.PNG"),
        ("b", "b.jpg", "b.png"),
    ]
    assert all(frame.read().ndim == 3 for frame in frames)
    assert as_stored(tmp_path / "images/c.jpg") == tmp_path / "images/c.jpg", (
        "what is not there stays as it was asked for"
    )
    save_image(tmp_path / "images/b.JPG")
    with pytest.raises(ValueError, match=r"two files .*b\.jpg differ in capital letters"):
        FolderReader(tmp_path / "images")


def test_a_suffix_s_stem_is_told_apart_by_capital_letters(tmp_path: Path) -> None:
    save_image(tmp_path / "x_leftImg8bit.PNG")
    save_image(tmp_path / "y_leftimg8bit.png")
    assert scan(tmp_path, "_leftImg8bit.png") == ["x"]


def test_other_images_beside_the_wanted_are_told(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpeg", "c.jpeg", "d.png", "a.png", "notes.txt"):
        save_image(tmp_path / name) if name != "notes.txt" else (tmp_path / name).touch()
    with collecting() as remarks:
        assert scan(tmp_path, ".jpg") == ["a"]
    (text,) = remarks
    assert "2 in .jpeg, 1 in .png are left out" in text
    with pytest.raises(ValueError, match=r"no file .*\.webp; .*2 in \.jpeg"):
        scan(tmp_path, ".webp")


@pytest.mark.parametrize(
    "name", [NOT_UTF8, "서울 강남대로", "a" * 251, "x²", "line\u2028break", "a\nb", "--help", "%41~"]
)
def test_file_names_of_any_bytes_and_length(name: str, tmp_path: Path) -> None:
    try:
        (tmp_path / name).mkdir()
    except OSError as error:
        pytest.skip(f"this file system has no such names: {error}")
    save_image(tmp_path / name / "1.png")
    save_image(tmp_path / f"{name}.png")
    (tmp_path / "list.txt").write_bytes(os.fsencode(f"{name}/1\n"))
    reader = FolderReader(tmp_path, image_suffix=".png")
    assert sorted(frame.name for frame in reader.frames) == sorted((name, f"{name}/1"))
    assert all(frame.read().shape == (4, 6, 3) for frame in reader.frames)
    if "\n" not in name:
        (frame,) = FolderReader(tmp_path, image_suffix=".png", split=tmp_path / "list.txt").frames
        assert frame.name == f"{name}/1"


def test_order_is_natural_with_any_digits() -> None:
    assert sorted(["f10", "f9", "f²", "f٣"], key=natural_key)[:2] == ["f9", "f10"]


def test_saved_logits_leave_hidden_files_alone(tmp_path: Path) -> None:
    logits = np.zeros((1, 2, 3, 4), np.float32)
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", logits=logits, labels=np.zeros((1, 3, 4), np.uint8))
    (tmp_path / "b.npz").rename(tmp_path / "b.NPZ")
    (tmp_path / "._a.npz").write_bytes(b"Mac OS X")
    (tmp_path / ".trash").mkdir()
    assert len(SavedLogits(tmp_path, labelled=True)) == 2


@pytest.mark.parametrize(
    ("file", "pattern", "expected"),
    [
        ("day/a.mp4", "day/*.mp4", True),
        ("day/a.MP4", "day/*.mp4", True),
        ("day/more/a.mp4", "day/*.mp4", False),
        ("day/more/a.mp4", "**/*.mp4", True),
        ("a.mp4", "**/*.mp4", True),
        ("day/more/a.mp4", "day/**/a.*", True),
        ("Day/a.mp4", "day/*.mp4", False),
    ],
)
def test_patterns(file: str, pattern: str, expected: bool) -> None:
    assert matches(file, pattern) is expected


def test_a_folder_is_listed_shallow_too(tmp_path: Path) -> None:
    Image.new("L", (1, 1)).save(tmp_path / "a.png")
    save_image(tmp_path / "deep/b.png")
    assert files_below(tmp_path, "fix", deep=False) == ["a.png"]
    assert sorted(files_below(tmp_path, "fix")) == ["a.png", "deep/b.png"]
