"""Published layouts as downloaded: names, files and what their ids mean. (Older readers: test_data_readers.py)"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blda.build.reader_factory import READERS
from blda.data.draws import Draw
from blda.data.label_map import CITYSCAPES19, CLASS_LISTS, label_lookup
from blda.data.readers.acdc import ACDC
from blda.data.readers.bdd10k import BDD10k
from blda.data.readers.camvid import COLOURS, GROUPS, CamVid
from blda.data.readers.dark_zurich import DarkZurich
from blda.data.readers.decoding import read_ids
from blda.data.readers.gta5 import GTA5
from blda.data.sample import IGNORE
from blda.data.segmentation_dataset import SegmentationDataset, read_frame
from blda.data.transforms import RandomCrop
from layouts import GOPRO, LAYOUTS, RAW, STILLS, TRAIN, save_grey, save_image


def names(reader: object) -> list[str]:
    return [frame.name for frame in reader.frames]


def indices(reader: object, classes: tuple[str, ...] = CITYSCAPES19, frame: int = 0) -> list[int]:
    """Class indices of a frame's first row."""
    lookup = label_lookup(reader.label_map, reader.ignored, classes)
    return read_frame(reader, lookup, reader.frames[frame])[1][0].tolist()


@pytest.mark.parametrize("name", LAYOUTS)
def test_unlabelled_needs_no_labels_and_has_the_same_frames(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    labelled = layout.reader(layout.make(tmp_path))
    assert len(labelled.frames) == 2
    for frame in labelled.frames:
        shutil.rmtree(frame.label.parent, ignore_errors=True)
    unlabelled = layout.reader(tmp_path, labelled=False)
    assert names(unlabelled) == names(labelled)
    assert all(frame.label is None for frame in unlabelled.frames)
    with pytest.raises(FileNotFoundError, match=r"no label .* for image .*; extract"):
        layout.reader(tmp_path)


def test_every_reader_has_a_name_in_configs() -> None:
    known = {reader.__name__ for reader in READERS.values()}
    assert {"ACDC", "BDD10k", "CamVid", "DarkZurich", "GTA5", "Synthia", "Viper", "Cityscapes", "FolderReader"} <= known


def test_acdc_has_four_conditions_two_kinds_of_ids_and_references(tmp_path: Path) -> None:
    for condition in ("night", "fog", "rain", "snow"):
        stem = f"{condition}/train/{GOPRO[0]}"
        save_image(tmp_path / f"rgb_anon/{stem}_rgb_anon.png")
        save_grey(tmp_path / f"gt/{stem}_gt_labelTrainIds.png", TRAIN)
        save_grey(tmp_path / f"gt/{stem}_gt_labelIds.png", RAW)
        save_image(tmp_path / f"rgb_anon/{condition}/train_ref/{GOPRO[0]}_rgb_ref_anon.png")
        save_grey(tmp_path / f"gt/{condition}/train_ref/{GOPRO[0]}_gt_ref_labelTrainIds.png", TRAIN)
    every = ACDC(tmp_path)
    assert names(every) == [f"{condition}/train/{GOPRO[0]}" for condition in ("fog", "night", "rain", "snow")]
    assert indices(every) == indices(ACDC(tmp_path, kind="labelIds")) == [0, 11, 12, IGNORE, 18, 16]
    assert names(ACDC(tmp_path, conditions=["night"])) == [f"night/train/{GOPRO[0]}"]
    assert indices(ACDC(tmp_path, "train_ref")) == [0, 11, 12, IGNORE, 18, 16]
    with pytest.raises(FileNotFoundError, match=r"foggy/train \(.*rgb_anon holds fog, night, rain, snow\)"):
        ACDC(tmp_path, conditions=["foggy"])
    with pytest.raises(ValueError, match="choose from fog, night, rain, snow"):
        ACDC(tmp_path, conditions=[])


def test_dark_zurich_has_labels_of_val_by_night_only(tmp_path: Path) -> None:
    LAYOUTS["dark_zurich"].make(tmp_path)
    for part, name in (("train/night", GOPRO[0]), ("train/day", GOPRO[1]), ("val_ref/day", f"{GOPRO[0]}_ref")):
        save_image(tmp_path / f"rgb_anon/{part}/{name}_rgb_anon.png")
    assert indices(DarkZurich(tmp_path, "val")) == [0, 11, 12, IGNORE, 18, 16]
    assert names(DarkZurich(tmp_path, labelled=False)) == [f"train/night/{GOPRO[0]}"]
    assert names(DarkZurich(tmp_path, labelled=False, time="day")) == [f"train/day/{GOPRO[1]}"]
    assert names(DarkZurich(tmp_path, "val_ref", labelled=False, time="day")) == [f"val_ref/day/{GOPRO[0]}_ref"]
    with pytest.raises(FileNotFoundError, match="only split val, time night, has public labels"):
        DarkZurich(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"train/dusk \(.*train holds day, night\)"):
        DarkZurich(tmp_path, time="dusk")


def test_bdd10k_labels_are_train_ids(tmp_path: Path) -> None:
    reader = BDD10k(LAYOUTS["bdd10k"].make(tmp_path))
    assert names(reader) == ["train/0a0a-7c39", "train/0a0b-16e4"]
    assert indices(reader) == [0, 11, 12, IGNORE, 18, 16]


def test_both_copies_of_camvid_give_the_same_classes(tmp_path: Path) -> None:
    classes = CLASS_LISTS["camvid11"]
    segnet = CamVid(LAYOUTS["camvid_segnet"].make(tmp_path / "segnet"))
    owners = CamVid(LAYOUTS["camvid_owners"].make(tmp_path / "owners"), "all")
    assert indices(segnet, classes) == indices(owners, classes) == [3, 9, 10, IGNORE, 0, 1]
    assert names(segnet) == names(owners) == list(STILLS)
    for reader in (CamVid(tmp_path / "segnet", sequences=["0016E5"]), CamVid(tmp_path / "owners", "all", True, ["00"])):
        assert STILLS[1] in names(reader)
    with pytest.raises(ValueError, match=r"begins with Seq05VD; check sequences"):
        CamVid(tmp_path / "segnet", sequences=["Seq05VD"])
    with pytest.raises(ValueError, match=r"1600000.0 is a number to YAML; put names in quotes"):
        CamVid(tmp_path / "segnet", sequences=[16e5])
    (tmp_path / "owners/half.txt").write_text(f"{STILLS[1]}\n")
    assert names(CamVid(tmp_path / "owners", "half")) == [STILLS[1]]
    with pytest.raises(FileNotFoundError, match=r"no split file .*train\.txt \(.*holds half\.txt\).*split: all"):
        CamVid(tmp_path / "owners")


def test_camvid_table_is_whole_and_its_colours_differ() -> None:
    members = [member for group in GROUPS.values() for member in group]
    assert len(COLOURS) == 32 == len(set(COLOURS.values()))
    assert set(COLOURS) - set(members) == {"Void"}
    assert len(members) == len(set(members)) == 31
    assert tuple(GROUPS) == CLASS_LISTS["camvid11"]


def test_real_camvid_ids_are_those_of_segnet(shared: Path) -> None:
    folder = shared / "data/camvid/labels/0016E5_day"
    if not folder.is_dir():
        pytest.skip(f"no CamVid at {folder}")
    seen = set()
    for path in sorted(folder.iterdir())[::20]:
        seen |= set(np.unique(read_ids(path)).tolist())
    assert seen <= set(range(12))


def test_gta5_frames_of_other_sizes_give_one_crop(tmp_path: Path) -> None:
    for number, size in (("00001", (52, 96)), ("00002", (46, 95))):
        save_image(tmp_path / f"images/{number}.png", size)
        (tmp_path / "labels").mkdir(exist_ok=True)
        Image.fromarray(np.full(size, 7, np.uint8)).save(tmp_path / f"labels/{number}.png")
    reader = GTA5(tmp_path)
    lookup = label_lookup(reader.label_map, reader.ignored, CITYSCAPES19)
    data = SegmentationDataset(reader, lookup, RandomCrop((36, 64), (32, 32)), seed=0)
    for index in range(2):
        sample = data[Draw(index=index, number=index)]
        assert sample.image.shape == (1, 3, 32, 32)
        assert (sample.label == 0).all()
