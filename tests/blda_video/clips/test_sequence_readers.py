"""SYNTHIA-Seq and CamVid as video, and the neighbour by number that all numbered layouts share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blda.config import loading
from blda.data.label_map import CITYSCAPES19, CLASS_LISTS, label_lookup
from blda.data.readers.frames import Frame
from blda.data.sample import IGNORE
from blda.data.segmentation_dataset import read_frame
from blda_video.build import READERS
from blda_video.clips.clip_dataset import ClipContext
from blda_video.clips.readers.bdd_vid import BDDVid
from blda_video.clips.readers.camvid_sequence import CamVidSequence
from blda_video.clips.readers.cityscapes_sequence import CityscapesSequence
from blda_video.clips.readers.numbered_frames import by_number
from blda_video.clips.readers.synthia_sequence import SynthiaSequence
from blda_video.clips.readers.viper_sequence import ViperSequence
from blda_video.config import VideoConfig
from layouts import SIZE, save_grey, save_image, save_red

CONFIGS = Path(__file__).parents[3] / "configs"
RAW = (3, 10, 11, 12, 15, 0)
"""Road, person, bicycle, lane marking, light, void."""


def owners(root: Path, frames: range = range(4)) -> Path:
    for t in frames:
        save_image(root / f"RGB/Stereo_Left/Omni_F/{t:06d}.png")
        save_red(root / f"GT/LABELS/Stereo_Left/Omni_F/{t:06d}.png", RAW)
    return root


def renamed(root: Path) -> Path:
    for t in range(4):
        save_image(root / f"rgb/{t:06d}.png")
        save_red(root / f"label/{t:06d}.png", RAW)
    return root


def names(reader: object) -> list[str]:
    return [frame.name for frame in reader.frames]


def indices(reader: object, classes: tuple[str, ...], rename: dict[str, str]) -> list[int]:
    lookup = label_lookup(reader.label_map, reader.ignored, classes, rename)
    return read_frame(reader, lookup, reader.frames[0])[1][0].tolist()


@pytest.mark.parametrize("make", [owners, renamed])
def test_synthia_seq_in_both_layouts_with_both_published_maps(make: object, tmp_path: Path) -> None:
    reader = SynthiaSequence(make(tmp_path))
    assert names(reader) == ["000000", "000001", "000002", "000003"]
    rider = {"bicycle": "rider"}
    assert indices(reader, CITYSCAPES19, rider) == [0, 11, 12, IGNORE, 6, IGNORE], "UnifiedVideoDA"
    assert indices(reader, CLASS_LISTS["synthia_seq12"], rider) == [0, 9, 10, IGNORE, 5, IGNORE], "DA-VSN"
    assert indices(reader, CITYSCAPES19, {"lane marking": "road"}) == [0, 11, 18, 0, 6, IGNORE]


def test_the_config_uses_the_published_map() -> None:
    config = loading.load(CONFIGS / "synthiaseq2csseq.yaml", VideoConfig)
    assert config.source.rename == {"bicycle": "rider"}
    assert READERS[config.source.reader["name"]] is SynthiaSequence
    assert config.evaluation.protocols == ("synthia_seq11", "synthia_seq11_uvda")
    assert config.target == loading.load(CONFIGS / "viper2csseq.yaml", VideoConfig).target


def test_synthia_seq_neighbours_and_lists(tmp_path: Path) -> None:
    reader = SynthiaSequence(owners(tmp_path))
    assert reader.neighbour(reader.frames[1], 2).name == "000003"
    assert reader.neighbour(reader.frames[1], 2).label is None
    assert reader.neighbour(reader.frames[1], 2).image.is_file()
    assert reader.neighbour(reader.frames[0], -1) is None
    assert reader.neighbour(reader.frames[3], 1) is None
    (tmp_path / "half.txt").write_text("000002\n")
    half = SynthiaSequence(tmp_path, "half")
    assert names(half) == ["000002"]
    assert half.neighbour(half.frames[0], -1).name == "000001", "a list chooses key frames, not neighbours"


def test_synthia_seq_unlabelled_needs_no_labels(tmp_path: Path) -> None:
    for t in range(2):
        save_image(tmp_path / f"rgb/{t:06d}.png")
    assert SynthiaSequence(tmp_path, labelled=False).frames[0].label is None
    with pytest.raises(FileNotFoundError, match=r"no label .*label/000000\.png for image .*; extract"):
        SynthiaSequence(tmp_path)


def test_synthia_seq_says_what_is_wrong(tmp_path: Path) -> None:
    owners(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"Omni_X \(.*Stereo_Left holds Omni_F\)"):
        SynthiaSequence(tmp_path, camera="Stereo_Left/Omni_X")
    with pytest.raises(FileNotFoundError, match=r"no split file .*test\.txt.*set split: train"):
        SynthiaSequence(tmp_path, "test")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no folder .*RGB/Stereo_Left/Omni_F \(.*empty holds none\)"):
        SynthiaSequence(tmp_path / "empty")
    reader = SynthiaSequence(tmp_path)
    lookup = label_lookup(reader.label_map, reader.ignored, CITYSCAPES19)
    save_red(reader.frames[0].label, [3, 300])
    with pytest.raises(ValueError, match=r"000000\.png holds unknown ids 300"):
        read_frame(reader, lookup, reader.frames[0])
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(reader.frames[0].label)
    with pytest.raises(ValueError, match=r"000000\.png has shape .*class id in red"):
        read_frame(reader, lookup, reader.frames[0])


def camvid(root: Path) -> Path:
    """SegNet's copy: three frames of the 15 Hz drive and one of those at 1 Hz."""
    for name in ("0016E5_07959", "0016E5_07961", "0016E5_07963", "0016E5_07990"):
        save_image(root / f"val/{name}.png")
        save_grey(root / f"valannot/{name}.png", range(12))
    return root


def test_camvid_has_neighbours_where_frames_are_consecutive(tmp_path: Path) -> None:
    reader = CamVidSequence(camvid(tmp_path), "val")
    found = [reader.neighbour(frame, 1) for frame in reader.frames]
    assert [frame and frame.name for frame in found] == ["0016E5_07961", "0016E5_07963", None, None]
    assert reader.neighbour(reader.frames[2], -2).name == "0016E5_07959"
    slow = CamVidSequence(tmp_path, "val", spacing=29)
    assert slow.neighbour(slow.frames[1], 1).name == "0016E5_07990"
    with pytest.raises(ValueError, match=r"no frame has a neighbour at offset 7"):
        ClipContext(reader, (7,), lambda image, neighbour: image)
    with pytest.raises(ValueError, match="spacing 0"):
        CamVidSequence(tmp_path, "val", spacing=0)


def test_real_camvid_neighbours_are_those_of_the_recording(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data/camvid/images/0016E5_day_15hz"
    if not folder.is_dir():
        pytest.skip(f"no CamVid at {folder}")
    (tmp_path / "val").mkdir()
    for path in folder.iterdir():  # the reader wants SegNet's names; nothing is decoded
        (tmp_path / "val" / f"{path.stem}.png").symlink_to(path)
    reader = CamVidSequence(tmp_path, "val", labelled=False)
    assert len(reader.frames) == 101
    for offset in (-3, 1):
        found = [reader.neighbour(frame, offset) for frame in reader.frames]
        assert found.count(None) == abs(offset)


@pytest.mark.parametrize(
    ("name", "file", "offset", "expected"),
    [
        ("train/x/x_000019", "x_000019_leftImg8bit.png", -1, "train/x/x_000018"),
        ("train/x/x_000009", "x_000009_leftImg8bit.png", 1, "train/x/x_000010"),
        ("a/099", "099.jpg", 1, "a/100"),
        ("a/999", "999.jpg", 1, "a/1000"),
        ("7", "7.png", -7, "0"),
    ],
)
def test_by_number(name: str, file: str, offset: int, expected: str, tmp_path: Path) -> None:
    image = tmp_path / file
    other = expected.rsplit("/", 1)[-1] + file.removeprefix(name.rsplit("/", 1)[-1])
    frame = Frame(name, image, None)
    assert by_number(frame, offset) is None
    (tmp_path / other).touch()
    assert by_number(frame, offset) == Frame(expected, tmp_path / other, None)
    assert by_number(frame, -10000) is None
    with pytest.raises(ValueError, match=r"frame a/last does not end in a number"):
        by_number(Frame("a/last", tmp_path / "last.png", None), 1)


@pytest.mark.parametrize(
    ("make", "holds"),
    [
        (lambda root, **options: CityscapesSequence(root, **options), "gtFine"),
        (lambda root, **options: CityscapesSequence(root, labelled=False, **options), "leftImg8bit_sequence"),
        (lambda root, **options: ViperSequence(root, **options), ""),
        (lambda root, **options: BDDVid(root, **options), "video_da"),
    ],
)
def test_wrong_splits_of_video_name_those_that_exist(make: object, holds: str, tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / holds / split).mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"trian.* \(.* holds train, val\); "):
        make(tmp_path, split="trian")
