"""Video files and BDD100k as data sets: which frames are keys, who is whose neighbour, the same in all processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from blda.data.draws import Draw
from blda.data.label_map import CITYSCAPES19, label_lookup
from blda.data.sample import collate
from blda.data.segmentation_dataset import read_frame
from blda.data.transforms import RandomCrop
from blda_video.build import READERS
from blda_video.clips.clip_dataset import ClipDataset, EvaluationClips
from blda_video.clips.fill_store import compute
from blda_video.clips.readers.bdd100k import BDD100k
from blda_video.clips.readers.unlabelled_videos import VideoFiles
from blda_video.flow.flow_store import FlowStore
from numbered_video import number, picture, turn, write

CLOSED = "keyint=24:bframes=3:open-gop=0"
OPEN = "keyint=24:min-keyint=24:scenecut=0:bframes=3:open-gop=1"


def still(image: torch.Tensor, neighbour: torch.Tensor) -> torch.Tensor:
    """An estimator of no motion."""
    return torch.zeros_like(image[:, :2])


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos in two folders, 100, 60 and 40 frames of 30 a second."""
    root = tmp_path_factory.mktemp("drives")
    write(root / "day/drive_2.mp4", 100, parameters=OPEN)
    write(root / "day/drive_10.mp4", 60, parameters=CLOSED)
    write(root / "night/é.mkv", 40, parameters=OPEN)
    (root / "day/notes.txt").write_text("not a video")
    return root


def test_key_frames_are_every_so_many_or_so_long(drives: Path) -> None:
    reader = VideoFiles(drives, every=40)
    names = [f"day/drive_2/{i:06d}" for i in (0, 40, 80)] + [f"day/drive_10/{i:06d}" for i in (0, 40)]
    assert [frame.name for frame in reader.frames] == [*names, "night/é/000000"]
    assert all(frame.label is None for frame in reader.frames)
    assert [number(frame.read()) for frame in reader.frames] == [0, 40, 80, 0, 40, 0]
    inside = VideoFiles(drives, every=10, start=1, stop=2)
    assert [frame.number for frame in inside.frames] == [30, 40, 50, 60, 30, 40, 50, 30]
    timed = VideoFiles(drives, files="day/*_2.mp4", seconds=1.5)
    assert [frame.number for frame in timed.frames] == [0, 45, 90]
    assert len(VideoFiles(drives, files=["night/é.mkv"]).frames) == 40


def test_neighbours_are_frames_of_the_same_video(drives: Path) -> None:
    reader = VideoFiles(drives, every=20, spacing=3)
    key = reader.frames[1]
    assert key.name == "day/drive_2/000020"
    for offset, expected in ((1, 23), (-2, 14), (26, 98)):
        found = reader.neighbour(key, offset)
        assert found.name == f"day/drive_2/{expected:06d}"
        assert number(found.read()) == expected
    assert reader.neighbour(key, 27) is None
    assert reader.neighbour(reader.frames[0], -1) is None


def test_wrong_declarations(drives: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="have no labels; use them as target"):
        VideoFiles(drives, labelled=True)
    with pytest.raises(ValueError, match="every 0"):
        VideoFiles(drives, every=0)
    with pytest.raises(ValueError, match=r"no video .* has a frame between 9 and None seconds"):
        VideoFiles(drives, start=9)
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        VideoFiles(drives / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no video file .*/\*\.mov; check"):
        VideoFiles(drives, files="*.mov")
    with pytest.raises(FileNotFoundError, match=r"no video .*gone\.mp4"):
        VideoFiles(drives, files=["day/drive_2.mp4", "gone.mp4"])
    write(tmp_path / "a.mp4", 3), write(tmp_path / "a.avi", 3, codec="mpeg4")
    with pytest.raises(ValueError, match="differ in their suffix alone"):
        VideoFiles(tmp_path)


def test_yaml_names_them() -> None:
    assert READERS["videos"] is VideoFiles
    assert READERS["bdd100k"] is BDD100k


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_read_the_same_clips(method: str, drives: Path) -> None:
    reader = VideoFiles(drives, every=20)
    dataset = ClipDataset(reader, None, RandomCrop(None, (48, 64)), 0, (-1, 1), still)
    draws = [[Draw(i % len(reader.frames), i)] for i in (7, 0, 3, 9, 1)]
    here = [collate([dataset[draw] for draw in batch]) for batch in draws]  # opens files here before workers are made
    loader = DataLoader(
        dataset, batch_sampler=draws, num_workers=2, collate_fn=collate, multiprocessing_context=method, timeout=60
    )
    for expected, found in zip(here, loader, strict=True):
        assert found.name == expected.name
        assert torch.equal(found.image, expected.image) and torch.equal(found.context, expected.context)


def test_flow_of_videos_is_stored_by_name(drives: Path, tmp_path: Path) -> None:
    reader = VideoFiles(drives, files="day/*_10.mp4", every=30)
    store = FlowStore(tmp_path, "still")
    assert compute(reader, (1,), still, store, progress=False) == 4
    assert store.has("day/drive_10/000000", "day/drive_10/000001")
    clip = EvaluationClips(reader, None, None, (1,), store)[1]
    assert number((clip.context[0, 0].permute(1, 2, 0).numpy() * 255).round()) == 31


def bdd100k(root: Path) -> Path:
    """Videos stored upside down with a note of it, in parts as they unpack; one image without a video."""
    for part, key in (("train/07", "0a0a-1"), ("val/00", "b1b1-2")):
        turn(write(root / f"videos/{part}/{key}.mov", 360, parameters=CLOSED, preset="ultrafast"), 180)
    for key in ("0a0a-1", "b1b1-2", "c2c2-3"):
        for folder, pixels, suffix in (
            ("images/10k", picture(300), "jpg"),
            ("labels/sem_seg/masks", np.uint8(2), "png"),
        ):
            path = root / folder / "train" / f"{key}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.broadcast_to(pixels, (64, 96, *pixels.shape[2:]))).save(path)
    return root


def test_bdd100k_joins_videos_with_the_labelled_images(tmp_path: Path) -> None:
    root = bdd100k(tmp_path)
    labelled = BDD100k(root)
    lookup = label_lookup(labelled.label_map, labelled.ignored, CITYSCAPES19)
    assert [frame.name for frame in labelled.frames] == ["train/0a0a-1", "train/b1b1-2"], "the third has no video"
    image, label = read_frame(labelled, lookup, labelled.frames[0])
    assert number(image) == 300 and (label == 2).all()
    after = labelled.neighbour(labelled.frames[1], 2)
    assert after.name == "train/b1b1-2/+2" and after.label is None
    assert number(np.rot90(after.read(), 2)) == 302, "10 s, and upright"
    (root / "labels").rename(root / "none")
    unlabelled = BDD100k(root, labelled=False)
    assert [frame.name for frame in unlabelled.frames] == [frame.name for frame in labelled.frames]
    assert all(frame.label is None for frame in unlabelled.frames)
    assert number(np.rot90(unlabelled.frames[0].read(), 2)) == 300
    assert number(np.rot90(unlabelled.neighbour(unlabelled.frames[0], -1).read(), 2)) == 299


def test_bdd100k_choices(tmp_path: Path) -> None:
    root = bdd100k(tmp_path)
    (root / "valid_imgs_val.txt").write_text("b1b1-2_307\n")
    reader = BDD100k(root, labelled=False, ids=root / "valid_imgs_val.txt", frame=307)
    assert [frame.name for frame in reader.frames] == ["train/b1b1-2"]
    assert number(np.rot90(reader.frames[0].read(), 2)) == 307
    with pytest.raises(ValueError, match=r"no frame 367 in .*b1b1-2\.mov, which has 360"):
        reader.neighbour(reader.frames[0], 60).read()
    (root / "images").rename(root / "none")
    assert [frame.name for frame in BDD100k(root, "val", labelled=False).frames] == ["val/b1b1-2"], "by folder"
    with pytest.raises(FileNotFoundError, match=r"no folder .*images.*extract BDD10k's images"):
        BDD100k(root)
    with pytest.raises(FileNotFoundError, match=r"no folder .*videos"):
        BDD100k(root / "labels")
