"""Only the part of a stored flow that a crop shows is unpacked and resized, to the same vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blda.data.draws import Draw
from blda.data.label_map import label_lookup
from blda.data.transforms import RandomCrop
from blda_video.clips.clip_dataset import ClipDataset
from blda_video.clips.readers.folder_sequence import FolderSequence
from blda_video.flow.flow_geometry import consistent, crop, flip, resize
from blda_video.flow.flow_store import FlowStore

SHAPE = (54, 96)
IDS = {0: "road", 1: "sky"}


@pytest.fixture
def video(tmp_path: Path) -> FolderSequence:
    numbers = np.random.default_rng(0)
    for part in ("images/a", "labels/a"):
        (tmp_path / part).mkdir(parents=True)
    for i in range(2):
        Image.fromarray(numbers.integers(0, 256, (*SHAPE, 3), np.uint8)).save(tmp_path / f"images/a/{i}.png")
        Image.fromarray(numbers.integers(0, 2, SHAPE, np.uint8)).save(tmp_path / f"labels/a/{i}.png")
    return FolderSequence(tmp_path / "images", tmp_path / "labels", IDS, image_suffix=".png")


@pytest.fixture
def store(tmp_path: Path) -> FlowStore:
    """Flow both ways, long enough for its steps to wrap around, with a tenth unknown."""
    generator = torch.Generator().manual_seed(0)
    store = FlowStore(tmp_path / "flow", "noise")
    for key, other in (("a/0", "a/1"), ("a/1", "a/0")):
        flow = 200 * torch.randn(1, 2, *SHAPE, generator=generator)
        flow[:, :, torch.rand(SHAPE, generator=generator) < 0.1] = torch.nan
        store.write(key, other, flow)
    return store


def same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first.nan_to_num(nan=1e9), second.nan_to_num(nan=1e9))


def test_a_part_is_that_of_the_whole(store: FlowStore) -> None:
    whole = store.read("a/1", "a/0")
    assert whole.isnan().any() and not whole.isnan().all()
    for rows, columns in ((slice(0, 54), slice(0, 96)), (slice(3, 40), slice(0, 7)), (slice(53, 54), slice(90, 96))):
        assert same(store.read("a/1", "a/0", rows, columns), whole[..., rows, columns])


@pytest.mark.parametrize("size", [None, (36, 64), (27, 48), (108, 192), (54, 48), (41, 77)])
def test_clips_are_those_of_whole_flow(video: FolderSequence, store: FlowStore, size: tuple[int, int] | None) -> None:
    clips = ClipDataset(video, label_lookup(IDS, (), ("road", "sky")), RandomCrop(size, (24, 40)), 5, (-1,), store)
    flips = set()
    for number in range(8):
        draw = Draw(1, number)
        _, geometry, _ = clips.cut(draw)
        forward, backward = (
            crop(resize(store.read(*names), size or SHAPE), geometry.top, geometry.left, 24, 40)
            for names in (("a/1", "a/0"), ("a/0", "a/1"))
        )
        if geometry.flip:
            forward, backward = flip(forward), flip(backward)
        clip = clips[draw]
        # Not bit for bit: a vector lies elsewhere in the part than in the whole, and vector instructions leave a rest;
        # and a pixel at the threshold of validity may fall to either side.
        torch.testing.assert_close(clip.flow[:, 0], forward.nan_to_num(nan=0.0), atol=1e-4, rtol=1e-5)
        assert (clip.valid[:, 0] != consistent(forward, backward)).sum() <= 1
        flips.add(geometry.flip)
    assert flips == {True, False}


@pytest.mark.parametrize("stored", [True, False])
def test_clips_in_bytes_become_the_plain_ones(video: FolderSequence, store: FlowStore, stored: bool) -> None:
    def brightness(image: torch.Tensor, neighbour: torch.Tensor) -> torch.Tensor:
        assert image.dtype == neighbour.dtype == torch.float32
        return (image - neighbour)[:, :2]

    lookup, cut = label_lookup(IDS, (), ("road", "sky")), RandomCrop((36, 64), (24, 32))
    flow = store if stored else brightness
    plain, packed = (ClipDataset(video, lookup, cut, 5, (-1,), flow, in_bytes) for in_bytes in (False, True))
    for draw in (Draw(1, 0), Draw(1, 1), Draw(0, 2)):  # the last has no neighbour
        expected, found = plain[draw], packed[draw]
        assert found.image.dtype == found.context.dtype == found.label.dtype == torch.uint8
        opened = found.to("cpu")
        for name in ("image", "label", "context", "flow", "valid"):
            first, second = getattr(opened, name), getattr(expected, name)
            assert first.dtype == second.dtype and torch.equal(first, second), name
