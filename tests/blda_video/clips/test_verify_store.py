import numpy as np
import pytest
import torch
from test_fill_store import Brightness, Film

from blda_video.clips.fill_store import compute
from blda_video.clips.verify_store import Verdict, verify
from blda_video.flow.flow_store import FlowStore
from blda_video.flow.published_flow import PublishedFlow


@pytest.fixture
def film(tmp_path):
    return Film(tmp_path / "film")


@pytest.fixture
def store(tmp_path, film):
    store = FlowStore(tmp_path / "flow", "brightness")
    compute(film, (-1,), Brightness(), store, progress=False)
    return store


def examined(film, store, **keywords):
    return verify(film, (-1,), store, progress=False, **keywords)


def test_a_whole_store_passes(film, store):
    verdict = examined(film, store)
    assert verdict == Verdict(wanted=8) and verdict.lines() == []


def test_the_shares_of_processes_make_the_whole(film, store):
    store.path("s0/1", "s0/0").unlink()
    shares = [examined(film, store, rank=rank, world=3) for rank in range(3)]
    assert sum(shares, Verdict()) == examined(film, store)


def test_what_is_missing_and_broken_is_named_with_its_mend(film, store):
    store.path("s0/1", "s0/0").unlink()
    store.path("s0/2", "s0/3").unlink()
    cut = store.path("s0/1", "s0/2")
    cut.write_bytes(cut.read_bytes()[:40])
    np.savez(store.path("s1/0", "s1/1"), flow=np.zeros((2, 20, 24), np.int16))
    unknown = np.zeros((2, 40, 48), np.int16)
    unknown[..., 0] = -32768  # differences: the whole row
    np.savez(store.path("s1/1", "s1/0"), flow=unknown)
    verdict = examined(film, store)
    assert verdict.wanted == 8 and len(verdict.missing) == 2 and len(verdict.faults) == 3
    missing, *faults = verdict.lines()
    assert missing.startswith("2 of 8 flows are missing, the first ") and missing.endswith("blda compute-flow CONFIG")
    for part in (r"s0%2F2.npz", "(2, 20, 24)", "100% of its vectors are unknown"):
        assert any(part in fault for fault in faults), part


def test_frames_of_another_size_than_the_store(tmp_path, store):
    larger = Film(tmp_path / "film", size=(44, 48))
    verdict = examined(larger, store)
    assert len(verdict.faults) == 8 and "is (40, 48) but its images are (44, 48)" in verdict.faults[0]


def test_unreadable_frames_are_a_fault_unless_tolerated(film, store):
    film.frames[1].image.write_bytes(b"no picture")
    for other in ("s0/0", "s0/2"):
        store.path("s0/1", other).unlink()
        store.path(other, "s0/1").unlink()
    assert any("1.png" in line for line in examined(film, store).lines())
    assert examined(film, store, skip_unreadable=True) == Verdict(wanted=4)


def test_other_offsets_than_the_stores_are_refused(film, store):
    with pytest.raises(ValueError, match=r"offsets -1, not -2"):
        verify(film, (-2,), store, progress=False)


def test_a_stopped_computation_ends_after_a_pair_and_continues(tmp_path, film):
    store, estimator = FlowStore(tmp_path / "flow", "brightness"), Brightness()
    assert compute(film, (-1,), estimator, store, progress=False, stopped=lambda: estimator.calls >= 2) == 2
    assert len(examined(film, store).missing) == 6
    assert compute(film, (-1,), Brightness(), store, progress=False) == 6
    assert examined(film, store).lines() == []


def test_an_estimator_without_sense_is_stopped_at_its_first_flow(tmp_path, film):
    store = FlowStore(tmp_path / "flow", "broken")
    with pytest.raises(ValueError, match=r"by broken: most vectors are not finite.*weights"):
        compute(film, (-1,), lambda a, b: torch.full((1, 2, *a.shape[-2:]), torch.nan), store, progress=False)
    assert not list(store.root.rglob("*.npz"))


def test_published_flow_of_one_way_needs_one_file_a_key_frame(tmp_path, film):
    root = tmp_path / "published"
    root.mkdir()
    for t in range(1, 4):
        np.save(root / f"s0_{t}_int16_x10.npy", np.zeros((40, 48, 2), np.int16))
    store = PublishedFlow(root, "{parent}_{key}_int16_x10.npy", offset=-1)
    verdict = examined(film, store)
    assert verdict.wanted == 4 and verdict.missing == (str(root / "s1_1_int16_x10.npy"),) and not verdict.faults
