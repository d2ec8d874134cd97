import cv2
import numpy as np
import pytest
import torch

from blda.data.readers.frames import Frame
from blda_video.clips.fill_store import compute, pairs
from blda_video.flow.flow_store import FlowStore


class Film:
    """Two sequences of pictures on disk."""

    label_map, ignored = {}, ()

    def __init__(self, root, lengths=(4, 2), size=(40, 48)):
        noise = np.random.default_rng(0)
        self.sequences = []
        for number, length in enumerate(lengths):
            names = [f"s{number}/{t}" for t in range(length)]
            for name in names:
                path = root / f"{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), noise.integers(0, 255, (*size, 3), dtype=np.uint8))
            self.sequences.append([Frame(name, root / f"{name}.png", None) for name in names])
        self.frames = tuple(frame for sequence in self.sequences for frame in sequence)

    def neighbour(self, frame, offset):
        for sequence in self.sequences:
            if frame in sequence:
                index = sequence.index(frame) + offset
                return sequence[index] if 0 <= index < len(sequence) else None
        return None

    def read_label(self, path):
        raise AssertionError("labels are never read")


class Brightness:
    """An estimator that counts its calls; its flow tells the two images apart."""

    def __init__(self, limit=None):
        self.calls, self.limit = 0, limit

    def __call__(self, image, neighbour):
        if self.calls == self.limit:
            raise KeyboardInterrupt
        self.calls += 1
        value = (image.mean() - 2 * neighbour.mean()).expand(1, 2, *image.shape[-2:])
        return value.round(decimals=1)


def needed(film, offsets):
    both = [(f, film.neighbour(f, o)) for f in film.frames for o in offsets if film.neighbour(f, o)]
    return {(a.name, b.name) for a, b in both} | {(b.name, a.name) for a, b in both}


def written(store):
    names = {path.relative_to(store.root).as_posix() for path in store.root.rglob("*.npz")}
    return {(name.rsplit("/", 1)[0], name.rsplit("/", 1)[1][:-4].replace("%2F", "/")) for name in names}


@pytest.mark.parametrize("offsets", [(-1,), (1,), (-1, 1), (-2, -1, 2), ()])
def test_stores_both_directions_of_every_pair_once(tmp_path, offsets):
    film, store, estimator = Film(tmp_path / "film"), FlowStore(tmp_path / "flow", "brightness"), Brightness()
    count = compute(film, offsets, estimator, store, progress=False)
    assert written(store) == needed(film, offsets)
    assert count == estimator.calls == len(needed(film, offsets)) == 2 * len(pairs(film, offsets))


def test_flow_leads_from_key_to_neighbour(tmp_path):
    film, store = Film(tmp_path / "film"), FlowStore(tmp_path / "flow", "brightness")
    compute(film, (-1,), Brightness(), store, progress=False)
    images = [torch.from_numpy(cv2.imread(str(f.image))).permute(2, 0, 1)[None] / 255 for f in film.frames[:2]]
    for a, b in ((0, 1), (1, 0)):
        expected = Brightness()(images[a], images[b])
        stored = store.read(film.frames[a].name, film.frames[b].name)
        torch.testing.assert_close(stored, expected, atol=1 / 128, rtol=0)


def test_continues_after_a_kill_and_then_has_nothing_to_do(tmp_path):
    film, store = Film(tmp_path / "film"), FlowStore(tmp_path / "flow", "brightness")
    with pytest.raises(KeyboardInterrupt):
        compute(film, (-1, 1), Brightness(limit=3), store, progress=False)
    assert len(written(store)) == 3
    rest = len(needed(film, (-1, 1))) - 3
    assert compute(film, (-1, 1), Brightness(), FlowStore(store.root, "brightness"), progress=False) == rest
    assert written(store) == needed(film, (-1, 1))
    assert compute(film, (-1, 1), Brightness(limit=0), store, progress=False) == 0


@pytest.mark.parametrize("world", [2, 3, 9])
def test_processes_share_the_work_without_overlap(tmp_path, world):
    film, store = Film(tmp_path / "film"), FlowStore(tmp_path / "flow", "brightness")
    counts = [compute(film, (-1, 1), Brightness(), store, rank, world, progress=False) for rank in range(world)]
    assert sum(counts) == len(needed(film, (-1, 1)))
    assert written(store) == needed(film, (-1, 1))


def test_unreadable_and_unequal_frames_are_named(tmp_path):
    film, store = Film(tmp_path / "film"), FlowStore(tmp_path / "flow", "brightness")
    cv2.imwrite(str(film.frames[1].image), np.zeros((44, 48, 3), np.uint8))
    with pytest.raises(ValueError, match=r"s0.*1\.png differ in size"):
        compute(film, (1,), Brightness(), store, progress=False)
    film.frames[1].image.write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"1\.png"):
        compute(film, (1,), Brightness(), store, progress=False)


def test_flow_of_frames_that_have_another_size_now_is_not_taken_for_done(tmp_path):
    film, store = Film(tmp_path / "film"), FlowStore(tmp_path / "flow", "brightness")
    compute(film, (-1,), Brightness(), store, progress=False)
    for frame in film.frames:
        cv2.imwrite(str(frame.image), np.zeros((10, 12, 3), np.uint8))
    with pytest.raises(ValueError, match=r"manifest\.json is \(.*\) but its images are \(10, 12\).*in an empty folder"):
        compute(film, (-1,), Brightness(), FlowStore(tmp_path / "flow", "brightness"), progress=False)
