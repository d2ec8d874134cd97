"""Clips: one geometry for key, context and flow; K = 0 is an image."""

from __future__ import annotations

import pickle
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from blda.data.draws import Draw
from blda.data.label_map import label_lookup
from blda.data.loader import endless_loader
from blda.data.readers.image_folder import FolderReader
from blda.data.sample import collate
from blda.data.sampler import DrawSampler
from blda.data.segmentation_dataset import EvaluationDataset, SegmentationDataset
from blda.data.transforms import RandomCrop
from blda_video.clips.clip import Clip
from blda_video.clips.clip_dataset import ClipDataset, EvaluationClips
from blda_video.clips.readers.folder_sequence import FolderSequence
from blda_video.flow.dis import DIS
from blda_video.flow.flow_geometry import warp
from blda_video.flow.flow_store import FlowStore

IDS = {0: "road", 1: "sky"}
TABLE = label_lookup(IDS, (255,), ("road", "sky"))
SHIFT = 3
"""Pixels by which each frame's content lies further right than in the frame before."""
SHAPE = (48, 64)
CROP = RandomCrop(crop=(36, 48))


@pytest.fixture
def video(tmp_path: Path) -> FolderSequence:
    """Four frames of a smooth pattern that moves SHIFT pixels to the right each frame, and a still second video."""
    texture = np.random.default_rng(0).integers(0, 255, (6, 40, 3)).astype(np.uint8)
    pattern = np.asarray(Image.fromarray(texture).resize((400, SHAPE[0]), Image.Resampling.BICUBIC))
    for part in ("images/a", "images/b", "labels/a", "labels/b"):
        (tmp_path / part).mkdir(parents=True)
    for name, start in [*((f"a/{i}", 100 - SHIFT * i) for i in range(4)), ("b/7", 30)]:
        frame = pattern[:, start : start + SHAPE[1]]
        Image.fromarray(frame).save(tmp_path / f"images/{name}.png")
        Image.fromarray((frame[..., 0] > 128).astype(np.uint8)).save(tmp_path / f"labels/{name}.png")
    return FolderSequence(tmp_path / "images", tmp_path / "labels", IDS, image_suffix=".png")


def true_flow(frames: int) -> Tensor:
    """(1, 2, H, W) flow over that many frames."""
    flow = torch.zeros(1, 2, *SHAPE)
    flow[:, 0] = SHIFT * frames
    return flow


@pytest.fixture
def store(video: FolderSequence, tmp_path: Path) -> FlowStore:
    store = FlowStore(tmp_path / "flow", estimator="truth")
    for key in range(4):
        for other in range(4):
            store.write(f"a/{key}", f"a/{other}", true_flow(other - key))
    return store


def still(image: Tensor, neighbour: Tensor) -> Tensor:
    """An estimator that sees no motion."""
    return torch.zeros_like(image[:, :2])


def test_no_context_is_the_image_dataset_bit_for_bit(video: FolderSequence) -> None:
    images = SegmentationDataset(video, TABLE, CROP, 5)
    clips = ClipDataset(video, TABLE, CROP, 5, (), None)
    with_context = ClipDataset(video, TABLE, CROP, 5, (-1, 1), still)
    for number in range(6):
        draw = Draw(number % 5, number, 1)
        image = images[draw]
        for clip in (clips[draw], with_context[draw]):
            assert torch.equal(clip.image, image.image)
            assert torch.equal(clip.label, image.label)
            assert (clip.name, clip.draw) == (image.name, image.draw)
        empty = clips[draw]
        assert empty.context.shape == (1, 0, 3, 36, 48)
        assert empty.flow.shape == (1, 0, 2, 36, 48)
        assert empty.valid.shape == (1, 0, 36, 48) and empty.valid.dtype == torch.bool
        assert empty.offset == ()


@pytest.mark.parametrize("resize", [None, (96, 128), (72, 96)])
def test_stored_flow_follows_resize_crop_and_flip(
    video: FolderSequence, store: FlowStore, resize: tuple[int, int] | None
) -> None:
    clips = ClipDataset(video, TABLE, RandomCrop(resize, (36, 48)), 5, (-1, 2), store)
    flips = set()
    for number in range(12):
        clip = clips[Draw(1, number)]
        flips.add(bool(clip.flow[0, 0, 0].mean() > 0))
        for k, offset in enumerate(clip.offset):
            assert clip.flow[:, k, 0].abs().mean() == pytest.approx(SHIFT * abs(offset) * (resize or SHAPE)[1] / 64)
            warped = warp(clip.context[:, k], clip.flow[:, k])
            error = (warped - clip.image).abs().amax(1)[clip.valid[:, k]]
            assert error.mean() < 0.02
            assert clip.valid[:, k].float().mean() > 0.5
    assert flips == {True, False}


def test_live_flow_sees_the_cut_images(video: FolderSequence) -> None:
    clips = ClipDataset(video, TABLE, CROP, 5, (1,), DIS("medium"))
    for number in range(4):
        clip = clips[Draw(1, number)]
        warped = warp(clip.context[:, 0], clip.flow[:, 0])
        error = (warped - clip.image).abs().amax(1)[clip.valid[:, 0]]
        assert error.mean() < 0.03
        assert clip.valid.float().mean() > 0.5
        assert torch.equal(clip.flow, clips[Draw(1, number)].flow)


def test_missing_neighbour_is_a_copy_that_is_valid_nowhere(video: FolderSequence, store: FlowStore) -> None:
    for flow in (store, still):
        clips = ClipDataset(video, TABLE, CROP, 5, (-1, 1), flow)
        for index, missing in ((0, (0,)), (3, (1,)), (4, (0, 1))):
            clip = clips[Draw(index, 0)]
            for k in range(2):
                assert clip.valid[:, k].any() == (k not in missing)
                if k in missing:
                    assert torch.equal(clip.context[:, k], clip.image)
                    assert not clip.flow[:, k].any()


def test_unknown_flow_is_finite_and_not_valid(video: FolderSequence, store: FlowStore) -> None:
    flow = true_flow(1)
    flow[..., 10:40, 20:50] = torch.nan
    store.write("a/1", "a/2", flow)
    clip = EvaluationClips(video, TABLE, None, (1,), store)[1]
    assert torch.isfinite(clip.flow).all()
    assert not clip.valid[0, 0, 10:40, 20:50].any()
    assert clip.valid[0, 0, :8, :50].all()


def test_evaluation_clips_share_the_evaluation_image(video: FolderSequence, store: FlowStore) -> None:
    for size in (None, (24, 32)):
        images, clips = EvaluationDataset(video, TABLE, size), EvaluationClips(video, TABLE, size, (1,), store)
        assert len(images) == len(clips) == 5
        assert torch.equal(clips[1].image, images[1].image)
        assert torch.equal(clips[1].label, images[1].label)
        assert clips[1].label.shape == (1, *SHAPE)
        assert clips[1].flow.shape == (1, 1, 2, *(size or SHAPE))
        assert clips[1].flow[0, 0, 0].mean() == pytest.approx(SHIFT * (size or SHAPE)[1] / 64)


def test_unlabelled_clips_touch_no_label(video: FolderSequence, tmp_path: Path) -> None:
    for label in (tmp_path / "labels").rglob("*.png"):
        label.write_bytes(b"no label")
    target = FolderSequence(tmp_path / "images", None, IDS, image_suffix=".png")
    assert ClipDataset(target, None, CROP, 5, (1,), still)[Draw(1, 0)].label is None


@pytest.mark.parametrize("workers", [0, 2])
def test_clips_load_in_workers_and_join(video: FolderSequence, workers: int) -> None:
    clips = ClipDataset(video, TABLE, CROP, 5, (-1, 1), DIS("ultrafast"))
    batches = list(islice(endless_loader(clips, DrawSampler(5, 2, seed=1), workers), 3))
    assert all(isinstance(batch, Clip) for batch in batches)
    assert batches[0].context.shape == (2, 2, 3, 36, 48)
    assert batches[0].offset == (-1, 1)
    alone = [pickle.loads(pickle.dumps(clips))[draw] for draw in next(iter(DrawSampler(5, 2, seed=1)))]
    assert torch.equal(collate(alone).flow, batches[0].flow)
    assert torch.equal(collate(alone).valid, batches[0].valid)


def test_wrong_offsets_are_errors(video: FolderSequence) -> None:
    for offsets, flow, message in (
        ((0,), still, "must differ"),
        ((1, 1), still, "must differ"),
        ((1,), None, "need flow"),
        ((9,), still, "no frame has a neighbour at offset 9"),
    ):
        with pytest.raises(ValueError, match=message):
            ClipDataset(video, TABLE, CROP, 5, offsets, flow)


def test_reader_of_single_images_has_no_context(video: FolderSequence) -> None:
    images = FolderReader(video.images, image_suffix=".png")
    assert ClipDataset(images, None, CROP, 5, (), None)[Draw(0, 0)].offset == ()
    with pytest.raises(ValueError, match="FolderReader knows no neighbouring frames"):
        ClipDataset(images, None, CROP, 5, (1,), still)


def test_wrong_sizes_are_errors(video: FolderSequence, store: FlowStore, tmp_path: Path) -> None:
    other = FlowStore(tmp_path / "other", estimator="truth")
    other.write("a/1", "a/2", torch.zeros(1, 2, 24, 32))
    with pytest.raises(ValueError, match=r"flow .*a%2F2\.npz is \(24, 32\) but its images are \(48, 64\)"):
        ClipDataset(video, TABLE, CROP, 5, (1,), other)[Draw(1, 0)]
    Image.new("RGB", (10, 10)).save(tmp_path / "images/a/2.png")
    with pytest.raises(ValueError, match=r"a/2\.png is \(10, 10\) but its key frame .*a/1\.png is \(48, 64\)"):
        ClipDataset(video, TABLE, CROP, 5, (1,), store)[Draw(1, 0)]


def test_missing_flow_names_the_command(video: FolderSequence, tmp_path: Path) -> None:
    clips = ClipDataset(video, TABLE, CROP, 5, (1,), FlowStore(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match=r"blda compute-flow"):
        clips[Draw(1, 0)]
