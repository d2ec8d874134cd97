"""Flow over several frames, composed of links: what is needed, what comes out, what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from blda.data.checks.data_report import works
from blda.data.checks.dataset_check import CheckScope, CheckTarget
from blda.data.draws import Draw
from blda.data.transforms import RandomCrop
from blda_video.clips.clip_check import check, neighbours_at
from blda_video.clips.clip_dataset import ClipDataset, EvaluationClips
from blda_video.clips.fill_store import compute, pairs
from blda_video.clips.readers.cityscapes_sequence import CityscapesSequence
from blda_video.clips.readers.folder_sequence import FolderSequence
from blda_video.clips.route import link_offsets, route, waypoints
from blda_video.clips.verify_store import verify
from blda_video.config import WorldSpec
from blda_video.flow.dis import DIS
from blda_video.flow.flow_geometry import chain, consistent
from blda_video.flow.flow_store import FlowStore
from blda_video.street_world.simulator.world import World
from blda_video.street_world.world_writer import make, sequence_seed

SHAPE = (48, 64)
CROP = RandomCrop(crop=(36, 48))
COUNT = 6


class Shift:
    """An estimator that knows the frames by their brightness: all move by (dx, dy) a frame. Counts its calls."""

    def __init__(self, dx: float = 3, dy: float = -1) -> None:
        self.step, self.calls = torch.tensor([dx, dy]), 0

    def __call__(self, image: Tensor, neighbour: Tensor) -> Tensor:
        self.calls += 1
        frames = ((neighbour.mean() - image.mean()) * 255 / 20).round()
        return (self.step * frames)[None, :, None, None].expand(1, 2, *image.shape[-2:]).contiguous()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One video of frames that are 20 brighter each."""
    (tmp_path / "images/a").mkdir(parents=True)
    for i in range(COUNT):
        Image.new("RGB", SHAPE[::-1], (20 * i,) * 3).save(tmp_path / f"images/a/{i}.png")
    return tmp_path


def reader_of(folder: Path, *keys: int) -> FolderSequence:
    """Its frames by number; the key frames, if not all."""
    split = folder / "keys.txt" if keys else None
    if keys:
        split.write_text("".join(f"a/{i}\n" for i in keys))
    return FolderSequence(folder / "images", image_suffix=".png", spacing=1, split=split)


def clip_of(reader: FolderSequence, index: int, offsets: tuple[int, ...], flow: object, links: int | None = 1):
    return EvaluationClips(reader, None, None, offsets, flow, links)[index]


def same(one: object, other: object) -> bool:
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("image", "context", "flow", "valid"))


@pytest.mark.parametrize(
    ("offset", "links", "stops"),
    [
        (4, None, (0, 4)),
        (-3, 1, (0, -1, -2, -3)),
        (3, 2, (0, 2, 3)),
        (-4, 2, (0, -2, -4)),
        (1, 1, (0, 1)),
        (-2, 5, (0, -2)),
    ],
)
def test_waypoints(offset: int, links: int | None, stops: tuple[int, ...]) -> None:
    assert waypoints(offset, links) == stops


def test_links_of_offsets_and_a_chain_that_is_none() -> None:
    assert link_offsets((-4, 2), 1) == (-1, 1)
    assert link_offsets((3, 4), 2) == (1, 2)
    assert link_offsets((-4, 2), None) == (-4, 2)
    for links in (0, -1):
        with pytest.raises(ValueError, match=f"chain is {links}; .* null computes flow directly"):
            waypoints(2, links)


@pytest.mark.parametrize("dataset", ["crops", "whole"])
def test_links_as_long_as_the_offset_are_direct_flow_bit_for_bit(folder: Path, dataset: str) -> None:
    texture = np.random.default_rng(0).integers(0, 255, (8, 40, 3)).astype(np.uint8)
    wide = np.asarray(Image.fromarray(texture).resize((300, SHAPE[0]), Image.Resampling.BICUBIC))
    for i in range(COUNT):
        Image.fromarray(wide[:, 100 - 3 * i : 100 - 3 * i + SHAPE[1]]).save(folder / f"images/a/{i}.png")
    reader, store = reader_of(folder), FlowStore(folder / "flow", "dis-medium")
    compute(reader, (-1, 1), DIS(), store, progress=False)
    for flow, offsets, links in ((DIS(), (-1, 1), 1), (DIS(), (-2, 1), 3), (store, (-1, 1), 1)):
        for draw in (Draw(0, 1), Draw(2, 7), Draw(5, 3)):
            if dataset == "crops":
                direct = ClipDataset(reader, None, CROP, 5, offsets, flow)[draw]
                chained = ClipDataset(reader, None, CROP, 5, offsets, flow, chain=links)[draw]
            else:
                direct, chained = (clip_of(reader, draw.index, offsets, flow, each) for each in (None, links))
            assert same(direct, chained) and direct.valid.any()


def test_no_context_stays_an_image_whatever_the_chain(folder: Path) -> None:
    plain, chained = (ClipDataset(reader_of(folder), None, CROP, 5, (), None, chain=c)[Draw(1, 2)] for c in (None, 1))
    assert same(plain, chained) and chained.context.shape[1] == 0


@pytest.mark.parametrize("links", [1, 2, None])
@pytest.mark.parametrize(("offsets", "keys"), [((-4, 2), ()), ((-3, -1, 1), (2, 4)), ((4,), (1,))])
def test_live_and_stored_flow_agree_and_a_store_holds_what_is_asked(
    folder: Path, offsets: tuple[int, ...], keys: tuple[int, ...], links: int | None
) -> None:
    reader, store = reader_of(folder, *keys), FlowStore(folder / "flow", "shift")
    written = compute(reader, offsets, Shift(), store, chain=links, progress=False)
    verdict = verify(reader, offsets, FlowStore(store.root), chain=links, progress=False)
    assert verdict.wanted == written == 2 * len(pairs(reader, offsets, chain=links)) and not verdict.lines()
    made = {tuple(path.relative_to(store.root).parts[1:]) for path in store.root.rglob("*.npz")}
    steps = {abs(int(key) - int(other.removesuffix(".npz").removeprefix("a%2F"))) for key, other in made}
    assert steps == {abs(step) for step in link_offsets(offsets, links)} and len(made) == written

    def data() -> ClipDataset:
        return ClipDataset(reader, None, CROP, 0, offsets, FlowStore(store.root), chain=links)

    report = check(CheckTarget("target", data, ("road",)), CheckScope(opened=None))
    assert report.flows == written and not report.missing and not report.problems
    for index in range(len(reader.frames)):
        assert same(clip_of(reader, index, offsets, Shift(), links), clip_of(reader, index, offsets, store, links))
    lost = next(store.root.rglob("*.npz"))
    lost.unlink()
    assert verify(reader, offsets, store, chain=links, progress=False).missing == (str(lost),)
    report = check(CheckTarget("target", data, ("road",)), CheckScope(opened=None))
    assert report.missing == (str(lost),) and not works([report])
    with pytest.raises(FileNotFoundError, match="blda compute-flow"):
        for index in range(len(reader.frames)):
            clip_of(reader, index, offsets, store, links)


def test_links_are_computed_once_for_all_offsets(folder: Path) -> None:
    flow = Shift()
    clip = clip_of(reader_of(folder), 4, (-1, -2, -4), flow)
    assert flow.calls == 8  # four links, both ways
    for k, offset in enumerate(clip.offset):
        moved = clip.flow[0, k, :, 20, 30]
        assert moved.tolist() == [3 * offset, -1 * offset] and clip.valid[0, k, 20, 30]


def test_a_frame_missing_on_the_way_is_a_missing_neighbour(folder: Path) -> None:
    (folder / "images/a/2.png").unlink()
    reader = reader_of(folder)  # 0 1 3 4 5
    assert [frame.name for frame in route(reader, reader.frames[3], -1, 1)] == ["a/4", "a/3"]
    assert not route(reader, reader.frames[2], -2, 1) and route(reader, reader.frames[2], -2)
    direct, chained = (clip_of(reader, 2, (-2, 1), Shift(), links) for links in (None, 1))
    assert direct.valid[:, 0].any() and not chained.valid[:, 0].any()
    assert torch.equal(chained.context[:, 0], chained.image) and not chained.flow[:, 0].any()
    assert torch.equal(chained.valid[:, 1], direct.valid[:, 1]) and direct.valid[:, 1].any()
    assert [(a.name, b.name) for a, b in pairs(reader, (-2,), chain=1)] == [("a/5", "a/4"), ("a/4", "a/3")]
    found = neighbours_at(reader, reader.frames, -2, 1)
    assert (found.found, found.ends, found.gaps) == (1, 2, ("a/3", "a/4"))
    with pytest.raises(ValueError, match=r"no frame has a neighbour at offset -3 .*extract the frames in between"):
        clip_of(reader, 0, (-3,), Shift())


def test_what_a_frame_on_the_way_has_wrong_is_named(folder: Path) -> None:
    Image.new("RGB", (10, 10)).save(folder / "images/a/2.png")
    reader = reader_of(folder, 3)
    with pytest.raises(ValueError, match=r"a/2\.png is \(10, 10\) but its key frame .*a/3\.png is \(48, 64\)"):
        clip_of(reader, 0, (-2,), Shift())
    report = check(
        CheckTarget("target", lambda: ClipDataset(reader, None, CROP, 0, (-2,), Shift(), chain=1), ("road",)),
        CheckScope(),
    )
    assert any("a/2.png is (10, 10)" in problem.text for problem in report.problems)


def test_a_store_of_other_links_is_refused(folder: Path) -> None:
    reader, store = reader_of(folder), FlowStore(folder / "flow", "shift")
    compute(reader, (-1,), Shift(), store, progress=False)
    assert clip_of(reader, 5, (-4,), store).valid.any()
    for offsets, links, other in (((-4,), 2, "-2"), ((-4,), None, "-4"), ((4,), 1, r"\+1")):
        with pytest.raises(ValueError, match=f"computed for offsets -1, not {other}"):
            clip_of(reader, 0, offsets, store, links)
        with pytest.raises(ValueError, match=f"computed for offsets -1, not {other}"):
            verify(reader, offsets, store, chain=links, progress=False)


def test_points_that_leave_the_cut_on_their_way_and_unknown_links_are_lost(folder: Path) -> None:
    def swinging(image: Tensor, neighbour: Tensor) -> Tensor:
        """Odd frames lie 20 pixels further right than even ones."""
        here, there = (20 * (round(float(each.mean()) * 255 / 20) % 2) for each in (image, neighbour))
        return torch.tensor([there - here, 0.0])[None, :, None, None].expand(1, 2, *SHAPE)

    clip = clip_of(reader_of(folder), 2, (2,), swinging)
    # A vector beside an unknown one may be unknown too.
    assert clip.valid[0, 0, :, : SHAPE[1] - 21].all() and not clip.valid[0, 0, :, SHAPE[1] - 20 :].any()
    assert clip.flow.abs().max() < 1e-4

    def holed(image: Tensor, neighbour: Tensor) -> Tensor:
        flow = torch.zeros_like(image[:, :2])
        flow[..., 5:9, 7:11] = torch.nan if image.mean() < neighbour.mean() else 0
        flow[..., 20:24, 7:11] = 1e30
        return flow

    clip = clip_of(reader_of(folder), 1, (3,), holed)
    unknown = torch.zeros(SHAPE, dtype=torch.bool)
    unknown[5:9, 7:11] = unknown[20:24, 7:11] = True
    assert clip.flow.isfinite().all() and not clip.valid[0, 0][unknown].any()
    assert clip.valid[0, 0, 30:].all()


def test_an_estimator_that_gives_another_shape_is_named(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"flow a/1 -> a/0 has shape \(1, 2, 1, 1\), not \(1, 2, 48, 64\)"):
        clip_of(reader_of(folder), 1, (-1,), lambda image, neighbour: image.new_zeros(1, 2, 1, 1))


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> tuple[CityscapesSequence, FlowStore, World]:
    """A street world with exact flow between consecutive frames."""
    root = tmp_path_factory.mktemp("chained")
    spec = WorldSpec(root, "cityscapes_seq", "target", "val", 1, 7, (64, 128), flow=True, seed=3)
    make(spec, progress=False)
    reader = CityscapesSequence(root, "val", labelled=False, key_frames="all")
    return reader, FlowStore(root / "flow", "exact"), World("target", sequence_seed(spec, 0), (64, 128), 7)


@pytest.mark.parametrize("offset", [3, -3])
def test_exact_links_of_a_street_world_reach_the_true_point(city, offset: int) -> None:
    reader, store, world = city
    clip = clip_of(reader, 3, (offset,), store)
    truth, seen = (torch.from_numpy(each) for each in world.flow(3, offset))
    error = (clip.flow[0, 0] - truth).norm(dim=0)
    valid = clip.valid[0, 0]
    assert (error[valid & seen] < 0.1).double().mean() > 0.95 and error[valid & seen].median() < 0.02
    assert (valid & seen).sum() > 0.95 * seen.sum() and (valid & seen).sum() > 0.9 * valid.sum()


def test_the_links_are_put_together_as_geometry_says(city) -> None:
    reader, store, _ = city
    names = [frame.name for frame in reader.frames]
    there, back = (
        chain(chain(*(store.read(names[a], names[b]) for a, b in way[:2])), store.read(*(names[i] for i in way[2])))
        for way in (((3, 4), (4, 5), (5, 6)), ((6, 5), (5, 4), (4, 3)))
    )
    clip = clip_of(reader, 3, (3,), store)
    assert torch.equal(clip.valid[:, 0], consistent(there, back))
    assert torch.equal(clip.flow[:, 0], there.nan_to_num(nan=0.0))
