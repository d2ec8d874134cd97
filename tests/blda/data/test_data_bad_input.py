"""Every reader names the file at fault and the mend."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blda.data.label_map import CITYSCAPES19, CLASS_LISTS, label_lookup
from blda.data.readers.decoding import read_colour_ids
from blda.data.readers.frames import scan
from blda.data.readers.image_folder import FolderReader
from blda.data.segmentation_dataset import read_frame
from layouts import LAYOUTS, Layout, save_grey, save_image


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Layout:
    return LAYOUTS[request.param]


def read(reader: object) -> tuple[np.ndarray, np.ndarray | None]:
    """Image and label of the first frame."""
    classes = CLASS_LISTS["camvid11"] if "pavement" in reader.label_map.values() else CITYSCAPES19
    return read_frame(reader, label_lookup(reader.label_map, reader.ignored, classes), reader.frames[0])


def replace(path: Path, image: Image.Image) -> None:
    path.unlink()
    image.save(path)


def test_empty_folder(layout: Layout, tmp_path: Path) -> None:
    layout.make(tmp_path)
    for file in [file for file in tmp_path.rglob("*") if file.is_file()]:
        file.unlink()
    with pytest.raises(ValueError, match=r"no file .*\*\*/\*.*; check"):
        layout.reader(tmp_path)


def test_no_folder_at_all(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "cityscape").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no folder .*cityscapes.* \(.* holds cityscape\); "):
        layout.reader(tmp_path / "cityscapes")


def test_wrong_split_names_those_that_exist(layout: Layout, tmp_path: Path) -> None:
    layout.make(tmp_path)
    (tmp_path / "half.txt").write_text("a\n")
    with pytest.raises(FileNotFoundError, match=r"trian.* \(.* holds .*\b(train|val|half\.txt)\b.*\); ") as error:
        layout.reader(tmp_path, split="trian")
    assert "\n" not in str(error.value)


def test_label_of_another_size(layout: Layout, tmp_path: Path) -> None:
    reader = layout.reader(layout.make(tmp_path))
    frame = reader.frames[0]
    save_image(frame.image, (5, 7))
    with pytest.raises(ValueError, match=r"is \(5, 7\) but its label .* is \(4, 6\).*; replace") as error:
        read(reader)
    assert str(frame.image) in str(error.value)
    assert str(frame.label) in str(error.value)


def test_another_kind_of_picture_instead_of_ids(layout: Layout, tmp_path: Path) -> None:
    reader = layout.reader(layout.make(tmp_path))
    path = reader.frames[0].label
    mode, message = ("RGB", "expected one channel of class ids, not colours|which means nothing")
    if LAYOUTS["synthia"] is layout:
        mode, message = "L", "expected colour channels with the class id in red"
    replace(path, Image.new(mode, (6, 4), 9 if mode == "L" else (1, 2, 3)))
    with pytest.raises(ValueError, match=message) as error:
        read(reader)
    assert str(path) in str(error.value)


def test_ids_outside_the_map(layout: Layout, tmp_path: Path) -> None:
    reader = layout.reader(layout.make(tmp_path))
    path = reader.frames[0].label
    layout.save(path, [*layout.ids[:3], 99])
    with pytest.raises(ValueError, match=r"unknown ids 99; add|colour \(1, 2, 3\), which means nothing") as error:
        read(reader)
    assert str(path) in str(error.value)


def test_paths_that_are_not_ascii(layout: Layout, tmp_path: Path) -> None:
    reader = layout.reader(layout.make(tmp_path / "Straße ü 街"))
    image, label = read(reader)
    assert image[0, 0].tolist()[1:] == [0, 0]
    assert label.shape == image.shape[:2]


@pytest.mark.parametrize("what", ["image", "label"])
def test_broken_links_name_both_ends(layout: Layout, what: str, tmp_path: Path) -> None:
    reader = layout.reader(layout.make(tmp_path))
    path = getattr(reader.frames[1], what)
    path.unlink()
    path.symlink_to(tmp_path / "gone.png")
    message = rf"no {what} .* \(a link to .*gone\.png, which is not there\).*; "
    with pytest.raises(FileNotFoundError, match=message) as error:
        layout.reader(tmp_path)
    assert str(path) in str(error.value)


def test_data_sets_are_only_read(layout: Layout, tmp_path: Path) -> None:
    layout.make(tmp_path)
    before = _state(tmp_path)
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        read(layout.reader(tmp_path))
        assert _state(tmp_path) == before
    finally:
        for path in before:
            path.chmod(0o755)


def _state(root: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of change of everything below a folder and of itself."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in [root, *root.rglob("*")]}


@pytest.mark.parametrize("part", [0, 0.6])
def test_labels_cut_off(layout: Layout, part: float, tmp_path: Path) -> None:
    reader = layout.reader(layout.make(tmp_path))
    path = reader.frames[0].label
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(ValueError, match=r"cannot read .*; download or extract it again") as error:
        read(reader)
    assert str(path) in str(error.value)


def test_links_to_folders_that_are_gone_are_not_left_out(tmp_path: Path) -> None:
    layout = LAYOUTS["cityscapes"]
    layout.make(tmp_path)
    (tmp_path / "leftImg8bit/train/bochum").symlink_to(tmp_path / "disk2/bochum")
    with pytest.raises(
        FileNotFoundError, match=r"no folder .*/bochum \(a link to .*disk2/bochum, which is not there\)"
    ):
        layout.reader(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path / "disk2")
    with pytest.raises(FileNotFoundError, match=r"no folder .*linked.* \(a link to .*disk2, which is not there\)"):
        layout.reader(tmp_path / "linked")


def test_links_in_a_circle_count_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_image(tmp_path / "bilder/a.jpg")
    (tmp_path / "bilder/again").symlink_to(tmp_path / "bilder")
    assert scan(tmp_path / "bilder", ".jpg") == ["a"]
    assert "bilder/again is a link" in caplog.text


def test_folders_that_cannot_be_listed_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_image(tmp_path / "bilder/a/1.jpg")
    save_image(tmp_path / "bilder/b/1.jpg")
    listing = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError, match=r"cannot list .*/b \(Permission denied\); check the disk and the permissions"):
        scan(tmp_path / "bilder", ".jpg")


def test_indices_of_a_palette_that_are_no_ids(tmp_path: Path) -> None:
    """A colour picture saved with a palette of its own: its indices are positions in that palette."""
    save_image(tmp_path / "images/a.jpg")
    save_grey(tmp_path / "labels/a.png", [0])
    reader = FolderReader(tmp_path / "images", tmp_path / "labels", {7: "road", 8: "sidewalk"})
    colours = np.random.default_rng(0).integers(0, 255, (4, 6, 3), np.uint8)
    Image.fromarray(colours).quantize(16).save(tmp_path / "labels/a.png")
    with pytest.raises(ValueError, match=r"labels/a\.png holds unknown ids 0, 1, .*; add them"):
        read(reader)


def test_colours_are_found_wherever_they_stand(tmp_path: Path) -> None:
    colours = ((9, 8, 7), (0, 0, 0), (255, 255, 255), (7, 8, 9))
    ids = np.random.default_rng(0).integers(0, 4, (5, 7))
    Image.fromarray(np.array(colours, np.uint8)[ids]).save(tmp_path / "a.png")
    assert (read_colour_ids(tmp_path / "a.png", colours) == ids).all()
    with pytest.raises(ValueError, match=r"a\.png has the colour \(255, 255, 255\)"):
        read_colour_ids(tmp_path / "a.png", (*colours[:2], colours[3]))


def test_split_files(tmp_path: Path) -> None:
    layout = LAYOUTS["gta5"]
    layout.make(tmp_path)
    (tmp_path / "none.txt").write_text("# nothing\n\n")
    with pytest.raises(ValueError, match=r"split file .*none\.txt names no frame; write"):
        layout.reader(tmp_path, split="none")
    (tmp_path / "typo.txt").write_text("00009\n")
    with pytest.raises(FileNotFoundError, match=r"no image .*00009\.png; "):
        layout.reader(tmp_path, split="typo")
