"""Street worlds on disk: real layouts, whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from blda.data.readers.viper import Viper
from blda_video.clips.readers.cityscapes_sequence import CityscapesSequence
from blda_video.clips.readers.viper_sequence import ViperSequence
from blda_video.config import WorldSpec
from blda_video.flow.flow_store import FlowStore
from blda_video.street_world import world_writer
from blda_video.street_world.layouts.cityscapes_layouts import CITYSCAPES_IDS
from blda_video.street_world.layouts.game_layouts import VIPER_IDS
from blda_video.street_world.simulator.materials import CLASSES
from blda_video.street_world.simulator.world import World
from blda_video.street_world.world_writer import ensure, make, sequence_seed
from cli import error_of, tool

SIZE = (32, 64)


def viper(root: Path, **changes) -> WorldSpec:
    return replace(WorldSpec(root / "world", "viper", "source", "train", 2, 3, SIZE), **changes)


def city(root: Path, **changes) -> WorldSpec:
    return replace(WorldSpec(root / "world", "cityscapes_seq", "target", "val", 1, 6, SIZE), **changes)


def drive(spec: WorldSpec, index: int) -> World:
    return World(spec.look, sequence_seed(spec, index), spec.size, spec.frames)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_viper_layout_reads_back(tmp_path: Path) -> None:
    spec = viper(tmp_path)
    make(spec, progress=False)
    truth = drive(spec, 1).frame(2)
    with Image.open(spec.root / "train/cls/002/002_00002.png") as label:
        assert label.mode == "P"
        assert label.getpalette()[72:75] == [0, 0, 142]  # a car
        ids = np.asarray(label)
    assert np.array_equal(ids, np.array([VIPER_IDS[c] for c in CLASSES])[truth.label])
    image = cv2.imread(str(spec.root / "train/img/002/002_00002.jpg"))[..., ::-1]
    assert np.abs(image.astype(int) - truth.image).mean() < 8
    reader = ViperSequence(spec.root, every=1)
    assert len(reader.frames) == 6 and len(Viper(spec.root).frames) == 2
    assert set(np.unique(reader.read_label(reader.frames[-1].label))) <= {*reader.label_map, *reader.ignored}
    assert reader.neighbour(reader.frames[0], 1).name == "train/001/001_00001"


def test_cityscapes_layout_reads_back(tmp_path: Path) -> None:
    spec = city(tmp_path)
    make(spec, progress=False)
    reader = CityscapesSequence(spec.root, "val")
    assert [frame.name for frame in reader.frames] == ["val/streetworld/streetworld_000000_000004"]
    truth = drive(spec, 0).frame(4)
    raw = reader.read_label(reader.frames[0].label)
    assert np.array_equal(raw, np.array([CITYSCAPES_IDS[c] for c in CLASSES])[truth.label])
    assert all(reader.label_map[CITYSCAPES_IDS[c]] == c for c in CLASSES)
    assert np.array_equal(cv2.imread(str(reader.frames[0].image))[..., ::-1], truth.image)
    assert reader.neighbour(reader.frames[0], 1) and not reader.neighbour(reader.frames[0], 2)
    assert len(CityscapesSequence(spec.root, "val", labelled=False, key_frames="all").frames) == 6


def test_stored_flow_is_the_exact_flow(tmp_path: Path) -> None:
    spec = city(tmp_path, frames=3, flow=True)
    make(spec, progress=False)
    make(replace(spec, split="train"), progress=False)
    stem = "val/streetworld/streetworld_000000_00000"
    for t, offset in ((1, 1), (1, -1)):
        stored = FlowStore(spec.root / "flow").read(f"{stem}{t}", f"{stem}{t + offset}")[0].numpy()
        exact = drive(spec, 0).flow(t, offset)[0]
        known = np.isfinite(stored).all(0)
        assert known.mean() > 0.98 and np.abs(stored - exact)[:, known].max() <= 1 / 128 + 1e-6
    with pytest.raises(ValueError, match="another size"):
        make(replace(spec, split="test", size=(40, 64)), progress=False)


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    make(viper(tmp_path), progress=False)
    make(replace(viper(tmp_path), root=tmp_path / "other"), progress=False, workers=2)
    one, two = files(tmp_path / "world"), files(tmp_path / "other")
    assert one == two and len(one) == 13


def test_ensure_makes_once_and_keeps_splits_apart(tmp_path: Path) -> None:
    ensure(viper(tmp_path), progress=False)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    ensure(viper(tmp_path), progress=False)
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    ensure(viper(tmp_path, split="val"), progress=False)
    train, val = (files(tmp_path / "world" / split / "img") for split in ("train", "val"))
    assert train.keys() == val.keys() and all(train[name] != val[name] for name in train)


def test_other_settings_are_an_error_that_names_them(tmp_path: Path) -> None:
    ensure(viper(tmp_path), progress=False)
    with pytest.raises(ValueError, match="size: 32x64, asked 40x64") as error:
        ensure(viper(tmp_path, size=(40, 64)), progress=False)
    assert "world_train.json" in str(error.value) and "\n" not in str(error.value)
    (tmp_path / "world" / "world_train.json").unlink()
    with pytest.raises(ValueError, match="exists already and is no"):
        ensure(viper(tmp_path), progress=False)


def test_a_corrupt_manifest_is_an_error(tmp_path: Path) -> None:
    spec = viper(tmp_path)
    spec.root.mkdir()
    spec.manifest.write_text("{")
    with pytest.raises(ValueError, match="corrupt manifest"):
        ensure(spec, progress=False)


def test_a_broken_off_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(job: tuple) -> None:
        sequence(job)
        raise KeyboardInterrupt

    sequence = world_writer._sequence
    monkeypatch.setattr(world_writer, "_sequence", stop)
    with pytest.raises(KeyboardInterrupt):
        make(viper(tmp_path), progress=False)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    make(viper(tmp_path), progress=False)


@pytest.mark.parametrize(
    "changes",
    [
        {"layout": "kitti"},
        {"look": "night"},
        {"split": "../x"},
        {"size": (8, 64)},
        {"sequences": 0},
        {"labelled": (3,)},
        {"seed": -1},
    ],
)
def test_impossible_specifications_are_refused(tmp_path: Path, changes: dict) -> None:
    with pytest.raises(ValueError, match=str(next(iter(changes.values()))).strip("()").replace(",", ".*")):
        make(viper(tmp_path, **changes), progress=False)
    assert list(tmp_path.iterdir()) == []


def test_the_tool_makes_a_world_and_reports_errors_in_one_line(tmp_path: Path) -> None:
    small = ("--layout", "viper", "--root", tmp_path / "world", "--split", "train", "--sequences", 1, "--frames", 1)
    tool("make_world", *small, "--size", 32, 64)
    assert len(Viper(tmp_path / "world", every=1).frames) == 1
    assert "size: 32x64, asked 40x64" in error_of("make_world", *small, "--size", 40, 64)
