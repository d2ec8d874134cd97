"""Readers of the published layouts, on small generated files of the same bytes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from blda.data.label_map import CITYSCAPES19, CLASS_LISTS, label_lookup
from blda.data.readers.cityscapes import Cityscapes
from blda.data.readers.decoding import read_ids, read_image
from blda.data.readers.frames import natural_key, scan
from blda.data.readers.gta5 import GTA5
from blda.data.readers.image_folder import FolderReader
from blda.data.readers.synthia import Synthia
from blda.data.readers.viper import Viper
from blda.data.sample import IGNORE
from blda.data.segmentation_dataset import read_frame

SHARED = Path(os.environ.get("BLDA_SHARED", Path(__file__).parents[4] / "shared"))


def save_image(path: Path, size: tuple[int, int] = (4, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], (255, 0, 0)).save(path)


def save_ids(path: Path, ids: list[int], palette: bool = False, size: tuple[int, int] = (4, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.resize(np.array(ids, np.uint8), size))
    if palette:
        image.putpalette([0, 80, 100] * 256)  # one colour for all: whoever reads colours fails
    image.save(path)


def indices(reader: object, classes: tuple[str, ...] = CITYSCAPES19) -> np.ndarray:
    """Class indices of the first frame's first row."""
    lookup = label_lookup(reader.label_map, reader.ignored, classes)
    return read_frame(reader, lookup, reader.frames[0])[1][0]


def cityscapes(root: Path, kind: str = "labelIds", ids: tuple[int, ...] = (7, 24, 25, 4, 33, 34)) -> Path:
    stem = "aachen/aachen_000000_000019"
    save_image(root / f"leftImg8bit/train/{stem}_leftImg8bit.png")
    save_ids(root / f"gtFine/train/{stem}_gtFine_{kind}.png", list(ids))
    return root


def gta5(root: Path) -> Path:
    save_image(root / "images/00001.png")
    save_ids(root / "labels/00001.png", [7, 24, 25, 4, 33, 34], palette=True)
    return root


def viper(root: Path) -> Path:
    for number in (0, 5, 10):
        save_image(root / f"train/img/001/001_{number:05d}.jpg")
    for number in (0, 10):
        save_ids(root / f"train/cls/001/001_{number:05d}.png", [3, 25, 29, 7, 8, 1], palette=True)
    return root


def synthia(root: Path) -> Path:
    save_image(root / "RGB/0000000.png")
    label = np.full((4, 6, 3), 7, np.uint16)
    label[..., 2] = [3, 10, 17, 0, 11, 22]  # red is last in OpenCV's order
    label[..., 1] = 60000  # instance numbers need the 16 bits
    (root / "GT/LABELS").mkdir(parents=True)
    cv2.imwrite(str(root / "GT/LABELS/0000000.png"), label)
    return root


READERS = {"cityscapes": (cityscapes, Cityscapes), "gta5": (gta5, GTA5), "viper": (viper, Viper)}
READERS["synthia"] = (synthia, Synthia)


@pytest.mark.parametrize("name", READERS)
def test_unlabelled_reader_needs_no_label_folder(name: str, tmp_path: Path) -> None:
    make, reader_of = READERS[name]
    root = make(tmp_path)
    labelled = reader_of(root)
    for labels in ("gtFine", "labels", "GT", "train/cls"):
        shutil.rmtree(root / labels, ignore_errors=True)
    unlabelled = reader_of(root, labelled=False)
    assert [frame.name for frame in unlabelled.frames] == [frame.name for frame in labelled.frames]
    assert all(frame.label is None for frame in unlabelled.frames)
    assert read_frame(unlabelled, None, unlabelled.frames[0])[1] is None
    with pytest.raises(FileNotFoundError, match=r"no label .*for image"):
        reader_of(root)


@pytest.mark.parametrize("name", READERS)
def test_wrong_root_and_empty_folder_are_named(name: str, tmp_path: Path) -> None:
    make, reader_of = READERS[name]
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere.*; check"):
        reader_of(tmp_path / "nowhere")
    make(tmp_path)
    for file in [*tmp_path.rglob("*.png"), *tmp_path.rglob("*.jpg")]:
        file.unlink()
    with pytest.raises(ValueError, match=r"no file .*\*\*/\*"):
        reader_of(tmp_path)


def test_cityscapes_raw_ids(tmp_path: Path) -> None:
    reader = Cityscapes(cityscapes(tmp_path))
    assert reader.frames[0].name == "train/aachen/aachen_000000_000019"
    assert indices(reader).tolist() == [0, 11, 12, IGNORE, 18, IGNORE]


def test_cityscapes_train_ids(tmp_path: Path) -> None:
    root = cityscapes(tmp_path, "labelTrainIds", (0, 11, 12, 255, 18, 255))
    assert indices(Cityscapes(root, kind="labelTrainIds")).tolist() == [0, 11, 12, IGNORE, 18, IGNORE]
    with pytest.raises(FileNotFoundError, match="labelIds"):
        Cityscapes(root)
    with pytest.raises(ValueError, match="unknown kind"):
        Cityscapes(root, kind="trainIds")


def test_gta5_takes_indices_not_colours(tmp_path: Path) -> None:
    assert indices(GTA5(gta5(tmp_path))).tolist() == [0, 11, 12, IGNORE, 18, IGNORE]


def test_list_file_is_a_split(tmp_path: Path) -> None:
    root = gta5(tmp_path)
    save_image(root / "images/00002.png")
    (root / "half.txt").write_text("# half\n00001\n\n")
    assert [frame.name for frame in GTA5(root, "half").frames] == ["00001"]
    with pytest.raises(FileNotFoundError, match=r"no split file .*test\.txt"):
        GTA5(root, "test")


def test_viper_keeps_van_and_train_apart(tmp_path: Path) -> None:
    reader = Viper(viper(tmp_path))
    assert [frame.name for frame in reader.frames] == ["train/001/001_00000", "train/001/001_00010"]
    assert indices(reader).tolist() == [0, IGNORE, 16, 8, 8, IGNORE]
    assert indices(reader, CLASS_LISTS["viper15"]).tolist() == [0, IGNORE, IGNORE, 6, 6, IGNORE]


def test_viper_every_frame_needs_its_labels(tmp_path: Path) -> None:
    root = viper(tmp_path)
    assert len(Viper(root, labelled=False, every=1).frames) == 3
    with pytest.raises(FileNotFoundError, match=r"001_00005\.png.*every: 10"):
        Viper(root, every=1)


def test_synthia_reads_16_bits_of_red(tmp_path: Path) -> None:
    assert indices(Synthia(synthia(tmp_path))).tolist() == [0, 11, 12, IGNORE, 18, IGNORE]


def folder_reader(root: Path, **options: object) -> FolderReader:
    return FolderReader(root / "bilder", root / "labels", {0: "road", 1: "sky"}, **options)


def make_folder(root: Path) -> None:
    for name in ("b/é 10", "b/é 9", "a/1"):
        save_image(root / f"bilder/{name}.jpg")
        save_ids(root / f"labels/{name}.png", [0, 1, 255])


def test_folder_is_recursive_naturally_sorted_and_takes_any_name(tmp_path: Path) -> None:
    root = tmp_path / "Straße ü"
    make_folder(root)
    reader = folder_reader(root)
    assert [frame.name for frame in reader.frames] == ["a/1", "b/é 9", "b/é 10"]
    assert indices(reader, ("sky", "road")).tolist() == [1, 0, IGNORE] * 2
    assert [frame.name for frame in folder_reader(root, folders=["b"]).frames] == ["b/é 9", "b/é 10"]
    (root / "split.txt").write_text("b/é 10\n", encoding="utf-8")
    assert [frame.name for frame in folder_reader(root, split=root / "split.txt").frames] == ["b/é 10"]


def test_folder_errors_name_path_and_mend(tmp_path: Path) -> None:
    make_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no folder .*nolabels"):
        FolderReader(tmp_path / "bilder", tmp_path / "nolabels", {0: "road"})
    with pytest.raises(FileNotFoundError, match=r"no folder .*bilder/c"):
        folder_reader(tmp_path, folders=["c"])
    with pytest.raises(ValueError, match=r"bilder/\*\*/\*\.png; .*image_suffix"):
        folder_reader(tmp_path, image_suffix=".png")
    (tmp_path / "split.txt").write_text("a/2\n")
    with pytest.raises(FileNotFoundError, match=r"no image .*a/2\.jpg"):
        folder_reader(tmp_path, split=tmp_path / "split.txt")
    (tmp_path / "labels/a/1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"no label .*a/1\.png"):
        folder_reader(tmp_path)


def test_folder_with_labels_wanted_or_unwanted(tmp_path: Path) -> None:
    make_folder(tmp_path)
    assert FolderReader(tmp_path / "bilder").frames[0].label is None
    with pytest.raises(ValueError, match="wanted with labels"):
        FolderReader(tmp_path / "bilder", labelled=True)
    shutil.rmtree(tmp_path / "labels")
    assert folder_reader(tmp_path, labelled=False).frames[0].label is None
    with pytest.raises(FileNotFoundError, match=r"no folder .*labels"):
        folder_reader(tmp_path, labelled=True)


def test_colours_as_labels_are_an_error(tmp_path: Path) -> None:
    make_folder(tmp_path)
    save_image(tmp_path / "labels/a/1.png")
    with pytest.raises(ValueError, match=r"a/1\.png.*not colours"):
        indices(folder_reader(tmp_path))


def test_broken_link_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "bilder/a/2.jpg").symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(FileNotFoundError, match=r"a/2\.jpg"):
        folder_reader(tmp_path)


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    make_folder(tmp_path / "real")
    (tmp_path / "view").mkdir()
    (tmp_path / "view/linked").symlink_to(tmp_path / "real/bilder/b")
    assert scan(tmp_path / "view", ".jpg") == ["linked/é 9", "linked/é 10"]


@pytest.mark.parametrize(("suffix", "read"), [(".jpg", read_image), (".png", read_image), (".png", read_ids)])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.97])
def test_cut_off_files_are_errors(suffix: str, read: object, part: float, tmp_path: Path) -> None:
    path = tmp_path / f"ü{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise if read is read_image else noise[..., 0]).save(path)
    assert read(path).shape[:2] == (64, 64)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"cannot read .*ü\{suffix}"):
        read(path)


def test_not_an_image_and_vanished_files_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("a web page that says no")
    for read in (read_image, read_ids):
        with pytest.raises(ValueError, match=r"a\.png"):
            read(tmp_path / "a.png")
        with pytest.raises(FileNotFoundError, match=r"b\.png"):
            read(tmp_path / "b.png")


def test_image_is_rgb(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [255, 0, 0]


def test_label_formats_of_one_channel(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2), 300, np.uint16)).save(tmp_path / "deep.png")
    assert read_ids(tmp_path / "deep.png").max() == 300
    Image.fromarray(np.eye(2, dtype=bool)).save(tmp_path / "binary.png")
    assert read_ids(tmp_path / "binary.png").tolist() == [[1, 0], [0, 1]]


def test_natural_order() -> None:
    assert sorted(["f10", "f9", "e", "10", "9"], key=natural_key) == ["9", "10", "e", "f9", "f10"]


CAMVID = SHARED / "data" / "camvid"


@pytest.mark.skipif(not CAMVID.is_dir(), reason=f"no CamVid at {CAMVID}; set BLDA_SHARED to the folder of shared data")
def test_real_camvid() -> None:
    names = CLASS_LISTS["camvid11"]
    folders = ("0006R0_day", "0016E5_day")
    reader = FolderReader(CAMVID / "images", CAMVID / "labels", dict(enumerate(names)), (11,), folders=folders)
    assert len(reader.frames) == 101 + 204
    image, label = read_frame(reader, label_lookup(reader.label_map, reader.ignored, names), reader.frames[-1])
    assert image.shape == (360, 480, 3)
    assert set(np.unique(label)) <= {*range(11), IGNORE}
    assert len(FolderReader(CAMVID / "images" / "0001TP_dusk", None, dict(enumerate(names))).frames) == 124
