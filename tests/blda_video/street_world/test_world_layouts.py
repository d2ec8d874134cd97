"""Every layout is written as the original is, byte by byte where it matters, and reads back as what the world showed.

Drives of coloured blocks stand for the street world: each frame is another, and each shows all classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image

from blda.build import classifier_run, reader_factory
from blda.data.label_map import CITYSCAPES19, CLASS_LISTS
from blda.data.readers.acdc import ACDC
from blda.data.readers.bdd10k import BDD10k
from blda.data.readers.cityscapes import Cityscapes
from blda.data.readers.class_folders import ClassFolders
from blda.data.readers.dark_zurich import DarkZurich
from blda.data.readers.frames import Reader
from blda.data.readers.gta5 import GTA5
from blda.data.readers.synthia import Synthia
from blda_video import build
from blda_video.clips.readers.bdd100k import BDD100k
from blda_video.clips.readers.bdd_vid import BDDVid
from blda_video.clips.readers.camvid_sequence import CamVidSequence
from blda_video.clips.readers.cityscapes_sequence import CityscapesSequence
from blda_video.clips.readers.folder_sequence import FolderSequence
from blda_video.clips.readers.synthia_sequence import SynthiaSequence
from blda_video.clips.readers.unlabelled_videos import VideoFiles
from blda_video.clips.readers.viper_sequence import ViperSequence
from blda_video.config import WorldSpec
from blda_video.street_world import world_writer
from blda_video.street_world.layouts.folder_layout import dealt
from blda_video.street_world.layouts.layout import Place
from blda_video.street_world.layouts.layout_names import LAYOUTS
from blda_video.street_world.miniature import READERS
from blda_video.street_world.simulator.domains import LOOKS
from blda_video.street_world.simulator.world import WorldFrame
from blda_video.street_world.world_writer import check, label_frames, layout_of, make

SIZE = (32, 64)


class Blocks:
    """In place of a World: blocks of colour, classes in random order, surfaces numbered past 8 bits."""

    def __init__(self, look: str, seed: int, size: tuple[int, int], frames: int, *_: float) -> None:
        self.look, self.seed, self.size, self.frames = LOOKS[look], seed, size, frames

    def frame(self, t: int) -> WorldFrame:
        generator = np.random.default_rng((self.seed, t))
        image = np.kron(generator.integers(0, 256, (2, 4, 3), np.uint8), np.ones((16, 16, 1), np.uint8))
        label = np.resize(generator.permutation(19).astype(np.uint8), self.size)
        return WorldFrame(image, label, np.ones(self.size, np.float32), label.astype(np.int32) + 1000)


@pytest.fixture(autouse=True)
def _blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_writer, "World", Blocks)


# fmt: off
CAMVID = {
    "sidewalk": "pavement", "wall": "building", "light": "sign", "vegetation": "tree", "terrain": "tree",
    "person": "pedestrian", "rider": "bicyclist", "bicycle": "bicyclist", "motorcycle": "bicyclist",
    "truck": "car", "bus": "car", "train": "car",
}
# fmt: on


@dataclass(frozen=True)
class Case:
    """read: the reader of a folder. split: to write. other: class of the world -> what it is read as, if another.
    png: bits and colour type of the label files (PNG specification, 11.2.2): 0 grey, 2 colour, 3 indexed."""

    read: Callable[[Path], Reader]
    split: str = "train"
    other: Mapping[str, str | None] = field(default_factory=dict)
    png: tuple[int, int] = (8, 0)
    options: Mapping[str, object] = field(default_factory=dict)


LIKE_IMAGES = {"camvid", "camvid_owners", "folder", "viper"}
"""Layouts of video that images have a reader for, too."""
VOID = dict.fromkeys(("wall", "terrain", "truck", "bus", "train", "motorcycle"))
FOLDER = {"ids": dict(enumerate(CITYSCAPES19)), "label_suffix": "_id.png", "image_suffix": ".png", "spacing": 3}
CASES = {
    "acdc": Case(ACDC),
    "bdd10k": Case(BDD10k),
    "bdd100k": Case(BDD100k),
    "bdd_vid": Case(lambda root: BDDVid(root, "val_orig_10k"), "val_orig_10k"),
    "camvid": Case(CamVidSequence, other=CAMVID),
    "camvid_owners": Case(lambda root: CamVidSequence(root, "all"), "all", CAMVID, (8, 2)),
    "cityscapes": Case(Cityscapes),
    "cityscapes_seq": Case(CityscapesSequence),
    "dark_zurich": Case(lambda root: DarkZurich(root, "val"), "val"),
    "folder": Case(lambda root: FolderSequence(root / "images", root / "labels", **FOLDER), "all", options=FOLDER),
    "gta5": Case(GTA5, png=(8, 3)),
    "synthia": Case(Synthia, png=(16, 2)),
    "synthia_seq": Case(SynthiaSequence, other={**VOID, "rider": "bicycle"}, png=(16, 2)),
    "viper": Case(ViperSequence, other={"wall": None, "pole": None, "rider": "person"}, png=(8, 3)),
}


def spec_of(name: str, root: Path, split: str, **changes: object) -> WorldSpec:
    """As blda make-world makes it by default, but for the size."""
    usual = LAYOUTS[name]().usual
    labelled = LAYOUTS[name]().published(usual.frames)
    made = WorldSpec(root / "set", name, "source", split, usual.sequences, usual.frames, SIZE, labelled=labelled)
    return replace(made, **changes)


def drives(spec: WorldSpec) -> list[Blocks]:
    seeds = (world_writer.sequence_seed(spec, index) for index in range(spec.sequences))
    return [Blocks(spec.look, seed, spec.size, spec.frames) for seed in seeds]


def places(spec: WorldSpec) -> dict[str, tuple[int, int]]:
    """Name of a labelled frame -> its sequence and number."""
    layout, spots = layout_of(spec), [(s, t) for s in range(spec.sequences) for t in label_frames(spec)]
    return {layout.name(Place(spec.split, s, t, spec.frames)): (s, t) for s, t in spots}


def near(image: np.ndarray, drive: Blocks) -> int:
    """The frame of a drive that an image shows, through lossy coding."""
    distances = [np.abs(image.astype(int) - drive.frame(t).image).mean() for t in range(drive.frames)]
    assert min(distances) < 12
    return int(np.argmin(distances))


def read_as(reader: Reader, path: Path) -> np.ndarray:
    """Class names (H, W) of a label file, '' where it has none; every id is declared."""
    raw = reader.read_label(path)
    assert set(np.unique(raw)) <= {*reader.label_map, *reader.ignored}
    return np.vectorize(lambda i: reader.label_map.get(int(i), ""), otypes=["U32"])(raw)


@pytest.mark.parametrize("name", CASES)
def test_a_layout_reads_back_as_what_the_world_showed(name: str, tmp_path: Path) -> None:
    if name == "bdd100k":
        pytest.importorskip("av")
    case = CASES[name]
    spec = spec_of(name, tmp_path, case.split, options=dict(case.options))
    make(spec, progress=False)
    reader, worlds, where = case.read(spec.root), drives(spec), places(spec)
    assert {frame.name for frame in reader.frames} == set(where)
    for frame in reader.frames:
        sequence, t = where[frame.name]
        truth, image = worlds[sequence].frame(t), frame.read()
        assert np.array_equal(image, truth.image) or (
            frame.image.suffix == ".jpg" and near(image, worlds[sequence]) == t
        )
        expected = np.array([case.other.get(key, key) or "" for key in CITYSCAPES19])[truth.label]
        assert np.array_equal(read_as(reader, frame.label), expected)
        header = frame.label.read_bytes()[:33]
        assert (header[24], header[25]) == case.png


@pytest.mark.parametrize(
    "name", sorted(CASES.keys() & build.READERS.keys() - reader_factory.READERS.keys() | LIKE_IMAGES)
)
def test_neighbours_are_the_frames_before_and_after(name: str, tmp_path: Path) -> None:
    if name == "bdd100k":
        pytest.importorskip("av")
    case = CASES[name]
    spec = spec_of(name, tmp_path, case.split, options=dict(case.options))
    make(spec, progress=False)
    reader, worlds, where = case.read(spec.root), drives(spec), places(spec)
    found = 0
    for frame in reader.frames:
        sequence, t = where[frame.name]
        for offset in (-2, -1, 1, 2):
            other = reader.neighbour(frame, offset)
            if sequence and name.startswith("camvid"):
                assert other is None, "frames of the 1 Hz drives are 30 apart"
                continue
            assert (other is not None) == (0 <= t + offset < spec.frames)
            if other is not None:
                assert near(other.read(), worlds[sequence]) == t + offset
                found += 1
    assert found


def test_indexed_labels_have_the_owners_colours(tmp_path: Path) -> None:
    for name, split, raw, colour in (("viper", "train", 29, (0, 80, 100)), ("gta5", "train", 24, (220, 20, 60))):
        spec = spec_of(name, tmp_path / name, split)
        make(spec, progress=False)
        with Image.open(next(iter(CASES[name].read(spec.root).frames)).label) as label:
            assert label.mode == "P"
            assert tuple(label.getpalette()[3 * raw : 3 * raw + 3]) == colour


def test_16_bit_labels_number_single_things_in_green(tmp_path: Path) -> None:
    spec = spec_of("synthia", tmp_path, "train")
    make(spec, progress=False)
    label, truth = spec.root / "GT/LABELS/0000001.png", drives(spec)[1].frame(0)
    pixels = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
    assert pixels.dtype == np.uint16
    thing = truth.label >= CITYSCAPES19.index("person")
    assert np.array_equal(pixels[..., 1], np.where(thing, truth.surface, 0))
    assert not pixels[..., 0].any()


def test_files_that_are_in_the_download_and_those_that_are_not(tmp_path: Path) -> None:
    def names(name: str, split: str, **changes: object) -> list[str]:
        root = tmp_path / f"{name}_{split}"
        make(spec_of(name, root, split, **changes), progress=False)
        return sorted(path.relative_to(root / "set").as_posix() for path in root.rglob("*.*"))

    viper = names("viper", "train", sequences=1)
    assert viper[:2] == ["train/cls/001/001_00000.png", "train/cls/001/001_00010.png"]
    assert viper[-1] == "world_train.json" and sum(name.endswith(".jpg") for name in viper) == 21
    assert "rgb_anon/night/val_ref/GOPR0352/GOPR0352_frame_000159_rgb_ref_anon.png" in names("acdc", "val_ref")
    assert not [name for name in names("acdc", "test") if name.startswith("gt")], "the owners keep these"
    zurich = names("dark_zurich", "train")[:-1]
    assert [name.split("/")[:3] for name in zurich] == [
        ["rgb_anon", "train", time] for time in ("day", "night", "twilight")
    ]
    assert next(name for name in names("bdd_vid", "train", sequences=1) if "labels" in name).endswith("_307.png")
    city = names("cityscapes", "val", sequences=1)
    assert city[0] == "gtFine/val/streetworld/streetworld_000000_000019_gtFine_labelIds.png"
    pytest.importorskip("av")
    bdd = names("bdd100k", "train", sequences=1)
    assert [name.split("/")[0] for name in bdd] == ["images", "labels", "videos", "world_train.json"]


def test_splits_without_folders_are_lists(tmp_path: Path) -> None:
    for name, reader in (
        ("gta5", GTA5),
        ("synthia", Synthia),
        ("synthia_seq", SynthiaSequence),
        ("camvid_owners", CamVidSequence),
    ):
        spec = spec_of(name, tmp_path / name, "few")
        make(spec, progress=False)
        assert {frame.name for frame in reader(spec.root, split="few").frames} == set(places(spec))
        with pytest.raises(ValueError, match="exists already and is no finished street world"):
            make(replace(spec, split="more"), progress=False)


def test_other_kinds_and_copies(tmp_path: Path) -> None:
    spec = spec_of("cityscapes_seq", tmp_path / "a", "train", options={"kind": "labelTrainIds"})
    make(spec, progress=False)
    reader = CityscapesSequence(spec.root, kind="labelTrainIds")
    assert [frame.name[-7:] for frame in reader.frames] == ["_000019", "_000019"]
    assert len(CityscapesSequence(spec.root, labelled=False).frames) == 2, "whole snippets"
    renamed = spec_of("synthia_seq", tmp_path / "b", "train", options={"renamed": True})
    make(renamed, progress=False)
    assert (renamed.root / "label/000008.png").is_file() and len(SynthiaSequence(renamed.root).frames) == 8
    both = spec_of("acdc", tmp_path / "c", "train")
    make(both, progress=False)
    raw = ACDC(both.root, kind="labelIds")
    assert np.array_equal(read_as(raw, raw.frames[0].label), read_as(ACDC(both.root), ACDC(both.root).frames[0].label))


def test_bdd100k_videos_show_the_still_at_ten_seconds(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    spec = spec_of("bdd100k", tmp_path, "train", sequences=1)
    make(spec, progress=False)
    (video,) = (spec.root / "videos" / "train").iterdir()
    with av.open(str(video)) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate, stream.frames) == ("h264", 30, 310)
    (drive,), reader = drives(spec), BDD100k(spec.root, labelled=False)
    (frame,) = reader.frames
    assert near(frame.read(), drive) == 10 and near(reader.neighbour(frame, -1).read(), drive) == 9
    (frame,) = BDD100k(spec.root, frame=307).frames
    assert near(BDD100k(spec.root, frame=307).neighbour(frame, 0).read(), drive) == 17


def test_videos_are_files_of_any_names(tmp_path: Path) -> None:
    pytest.importorskip("av")
    for files, names in (("day/*.mp4", ["day/a", "day/b"]), (("x.webm", "y/z.avi"), ["x", "y/z"])):
        spec = spec_of("videos", tmp_path / names[0][0], "all", options={"files": files, "still": 5}, labelled=())
        make(spec, progress=False)
        reader = VideoFiles(spec.root, files)
        assert [frame.name for frame in reader.frames] == [f"{name}/{n:06d}" for name in names for n in range(17)]
        assert near(reader.frames[7].read(), drives(spec)[0]) == 2


def test_class_folders_are_named_listed_and_told_apart(tmp_path: Path) -> None:
    spec = spec_of("class_folders", tmp_path, "validation", look="target")
    make(spec, progress=False)
    classes, images = CLASS_LISTS["visda12"], spec.root / "validation"
    folders = ClassFolders(images, classes)
    listed = ClassFolders(images, classes, listing=images / "image_list.txt")
    assert [frame.name for frame in folders.frames] == [frame.name for frame in listed.frames]
    assert len(folders.frames) == 4 * 12 and {frame.image.suffix for frame in folders.frames} == {".jpg"}
    assert [int(folders.read_label(frame.label)) for frame in folders.frames[:48:4]] == list(range(12))
    pixels = [frame.read().tobytes() for frame in folders.frames]
    assert len(set(pixels)) == len(pixels)


def test_any_class_names_get_pixels() -> None:
    assert dealt({0: "road", 1: "obstacle"}) == {name: int(name != "road") for name in CITYSCAPES19}
    assert set(dealt({5: "a", 6: "b", 7: "person"}).values()) == {5, 6, 7}
    assert dealt({3: "pedestrian", 4: "road"})["person"] == 3
    assert dealt({3: "pedestrian", 4: "person"})["person"] == 4


def test_every_reader_has_a_layout_to_rehearse_with() -> None:
    assert set(READERS) == {*build.READERS, *classifier_run.READERS}
    assert {*CASES, "videos", "class_folders"} == set(LAYOUTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": "synthia_seq", "sequences": 2}, "use 1 .. 1 sequences"),
        ({"layout": "bdd10k", "frames": 2}, "of 1 .. 1 frames"),
        ({"layout": "gta5", "flow": True}, "exact flow is not stored"),
        ({"options": {"colour": 1}}, "viper has no 'colour'"),
    ],
)
def test_what_a_layout_cannot_be_is_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(replace(WorldSpec(tmp_path, "viper", "source", sequences=1, frames=1, size=SIZE), **changes))


def test_odd_sizes_are_an_error_of_videos_that_names_the_file(tmp_path: Path) -> None:
    pytest.importorskip("av")
    layout = LAYOUTS["videos"]()
    image = np.zeros((33, 64, 3), np.uint8)
    world = SimpleNamespace(frames=1, frame=lambda t: SimpleNamespace(image=image))
    with pytest.raises(ValueError, match=r"a\.mp4.*even sizes"):
        layout.write(tmp_path, "all", 0, world, ())
