"""Readers of video layouts: which frames are keys, and who is whose neighbour."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blda.data.label_map import CITYSCAPES19, label_lookup
from blda.data.sample import IGNORE
from blda.data.segmentation_dataset import read_frame
from blda_video.clips.readers.bdd_vid import BDDVid
from blda_video.clips.readers.cityscapes_sequence import CityscapesSequence
from blda_video.clips.readers.folder_sequence import FolderSequence
from blda_video.clips.readers.viper_sequence import ViperSequence

SHARED = Path(os.environ.get("BLDA_SHARED", Path(__file__).parents[4] / "shared"))


def save(path: Path, value: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB" if value is None else "L", (6, 4), 0 if value is None else value).save(path)


def cityscapes(root: Path) -> Path:
    """Two snippets of aachen, then two of frankfurt that follow each other without a gap."""
    for city, sequence, first, count in (("aachen", 0, 0, 30), ("aachen", 1, 0, 30), ("frankfurt", 0, 275, 60)):
        for number in range(first, first + count):
            stem = f"train/{city}/{city}_{sequence:06d}_{number:06d}"
            save(root / f"leftImg8bit_sequence/{stem}_leftImg8bit.png")
            if (number - first) % 30 == 19:
                save(root / f"gtFine/{stem}_gtFine_labelIds.png", 25)
    return root


KEYS = ["aachen_000000_000019", "aachen_000001_000019", "frankfurt_000000_000294", "frankfurt_000000_000324"]


def names(reader: object) -> list[str]:
    return [frame.name.rsplit("/", 1)[1] for frame in reader.frames]


def test_cityscapes_keys_are_the_labelled_frames_with_and_without_labels(tmp_path: Path) -> None:
    root = cityscapes(tmp_path)
    labelled = CityscapesSequence(root)
    lookup = label_lookup(labelled.label_map, labelled.ignored, CITYSCAPES19)
    assert names(labelled) == KEYS
    assert (read_frame(labelled, lookup, labelled.frames[0])[1] == 12).all()
    shutil.rmtree(root / "gtFine")
    unlabelled = CityscapesSequence(root, labelled=False)
    assert [frame.name for frame in unlabelled.frames] == [frame.name for frame in labelled.frames]
    assert all(frame.label is None for frame in unlabelled.frames)
    assert len(CityscapesSequence(root, labelled=False, key_frames="all").frames) == 120


def test_cityscapes_neighbours_count_from_the_labelled_frame(tmp_path: Path) -> None:
    reader = CityscapesSequence(cityscapes(tmp_path))
    frankfurt = reader.frames[2]
    assert reader.neighbour(frankfurt, -1).name == "train/frankfurt/frankfurt_000000_000293"
    assert reader.neighbour(frankfurt, -1).label is None
    assert reader.neighbour(frankfurt, -20) is None
    assert reader.neighbour(reader.frames[0], 10).name.endswith("_000029")
    assert reader.neighbour(reader.frames[0], 11) is None
    assert reader.neighbour(reader.frames[0], -20) is None


def test_cityscapes_incomplete_snippets(tmp_path: Path) -> None:
    root = cityscapes(tmp_path)
    (root / "leftImg8bit_sequence/train/aachen/aachen_000001_000003_leftImg8bit.png").unlink()
    with pytest.raises(ValueError, match=r"snippet aachen/aachen_000001_000000 has 3 of 30 frames.*key_frames: all"):
        CityscapesSequence(root, labelled=False)
    (root / "leftImg8bit_sequence/train/aachen/aachen_000001_000019_leftImg8bit.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"no image .*aachen_000001_000019"):
        CityscapesSequence(root)
    with pytest.raises(ValueError, match="unknown key_frames"):
        CityscapesSequence(root, key_frames="labelled")


def test_viper_neighbours_are_numbered(tmp_path: Path) -> None:
    for number in range(8, 13):
        save(tmp_path / f"train/img/002/002_{number:05d}.jpg")
    save(tmp_path / "train/cls/002/002_00010.png", 3)
    reader = ViperSequence(tmp_path)
    (key,) = reader.frames
    assert key.label is not None
    assert reader.neighbour(key, -1).name == "train/002/002_00009"
    assert reader.neighbour(key, -1).label is None
    assert reader.neighbour(key, 2).image.is_file()
    assert reader.neighbour(key, 3) is None


def test_bdd_keys_and_neighbours(tmp_path: Path) -> None:
    for number in range(305, 312):
        save(tmp_path / f"video_da/train/images/0a0a-7c39_{number}.jpg")
    save(tmp_path / "video_da/train/labels/0a0a-7c39_307.png", 255)
    reader = BDDVid(tmp_path)
    (key,) = reader.frames
    lookup = label_lookup(reader.label_map, reader.ignored, CITYSCAPES19)
    assert key.name == "train/0a0a-7c39_307"
    assert (read_frame(reader, lookup, key)[1] == IGNORE).all()
    assert reader.neighbour(key, -2).name == "train/0a0a-7c39_305"
    assert reader.neighbour(key, -3) is None
    with pytest.raises(FileNotFoundError, match=r"no folder .*val_orig_10k"):
        BDDVid(tmp_path, "val_orig_10k")


def folder(root: Path) -> Path:
    for name in ("a/f_8", "a/f_10", "a/f_12", "a/f_16", "b/f_18"):
        save(root / f"{name}.jpg")
    return root


def test_folder_neighbours_by_position(tmp_path: Path) -> None:
    reader = FolderSequence(folder(tmp_path), None, {})
    assert names(reader) == ["f_8", "f_10", "f_12", "f_16", "f_18"]
    key = reader.frames[2]
    assert reader.neighbour(key, 1).name == "a/f_16"
    assert reader.neighbour(key, -2).name == "a/f_8"
    assert reader.neighbour(key, 2) is None, "another folder is another video"
    assert reader.neighbour(key, -3) is None


def test_folder_neighbours_by_number(tmp_path: Path) -> None:
    reader = FolderSequence(folder(tmp_path), None, {}, spacing=2)
    key = reader.frames[2]
    assert reader.neighbour(key, -1).name == "a/f_10"
    assert reader.neighbour(key, -2).name == "a/f_8"
    assert reader.neighbour(key, 1) is None, "frame 14 is missing"
    assert reader.neighbour(key, 2).name == "a/f_16"
    with pytest.raises(ValueError, match="spacing 0"):
        FolderSequence(tmp_path, None, {}, spacing=0)
    save(tmp_path / "c/last.jpg")
    unnumbered = FolderSequence(tmp_path, None, {}, folders=["c"], spacing=1)
    with pytest.raises(ValueError, match=r"c/last .*does not end in a number"):
        unnumbered.neighbour(unnumbered.frames[0], 1)


def test_folder_split_chooses_keys_not_neighbours(tmp_path: Path) -> None:
    (folder(tmp_path) / "keys.txt").write_text("a/f_10\n")
    save(tmp_path / "labels/a/f_10.png", 0)
    reader = FolderSequence(tmp_path, tmp_path / "labels", {0: "road"}, split=tmp_path / "keys.txt")
    assert names(reader) == ["f_10"]
    assert reader.neighbour(reader.frames[0], 1).name == "a/f_12"


CAMVID = SHARED / "data" / "camvid" / "images" / "0016E5_day_15hz"


@pytest.mark.skipif(not CAMVID.is_dir(), reason=f"no CamVid at {CAMVID}; set BLDA_SHARED to the folder of shared data")
def test_real_camvid_spacing_is_two() -> None:
    by_position, by_number = FolderSequence(CAMVID, None, {}), FolderSequence(CAMVID, None, {}, spacing=2)
    assert len(by_position.frames) == 101
    for offset in (-3, -1, 1, 2):
        found = [by_position.neighbour(frame, offset) for frame in by_position.frames]
        assert found == [by_number.neighbour(frame, offset) for frame in by_number.frames]
        assert found.count(None) == abs(offset)
    assert np.all([len({frame.name for frame in by_position.frames}) == 101])
