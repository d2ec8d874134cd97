"""The street world: deterministic, 19 classes, exact flow."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from blda_video.street_world.simulator.domains import SOURCE
from blda_video.street_world.simulator.materials import CLASSES
from blda_video.street_world.simulator.render import flow, look
from blda_video.street_world.simulator.scene import Builder, Path
from blda_video.street_world.simulator.world import World

SIZE = (96, 192)
BOTH = pytest.mark.parametrize("name", ["source", "target"])


@lru_cache(maxsize=4)
def world(name: str, seed: int = 3) -> World:
    return World(name, seed, SIZE, frames=12)


@lru_cache(maxsize=1)
def labels(name: str) -> np.ndarray:
    """Pixels of each class over many streets, (streets, 19)."""
    counts = []
    for seed in range(40):
        street = World(name, seed, (64, 128), frames=20)
        pair = np.stack([street.frame(t).label for t in (4, 15)])
        counts.append(np.bincount(pair.ravel(), minlength=len(CLASSES)))
    return np.stack(counts)


def warped(values: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Values of the neighbour at the nearest pixel of where each key pixel goes."""
    y, x = np.mgrid[: values.shape[0], : values.shape[1]]
    column = np.rint(x + motion[0]).clip(0, values.shape[1] - 1).astype(int)
    row = np.rint(y + motion[1]).clip(0, values.shape[0] - 1).astype(int)
    return values[row, column]


def interpolated(motion: np.ndarray, at: np.ndarray) -> np.ndarray:
    """`motion` (2, H, W), read bilinearly at each pixel moved by `at`."""
    y, x = np.mgrid[: motion.shape[1], : motion.shape[2]]
    x = (x + at[0]).clip(0, motion.shape[2] - 1.001)
    y = (y + at[1]).clip(0, motion.shape[1] - 1.001)
    j, i, u, v = x.astype(int), y.astype(int), x % 1, y % 1
    top = motion[:, i, j] * (1 - u) + motion[:, i, j + 1] * u
    return top * (1 - v) + (motion[:, i + 1, j] * (1 - u) + motion[:, i + 1, j + 1] * u) * v


@BOTH
def test_a_seed_gives_the_same_bytes_in_any_order(name: str) -> None:
    first, again = World(name, 5, SIZE, 8), World(name, 5, SIZE, 8)
    again.frame(0)
    again.flow(6, 1)
    a, b = first.frame(4), again.frame(4)
    for field in ("image", "label", "depth", "surface"):
        assert getattr(a, field).tobytes() == getattr(b, field).tobytes()
    assert first.flow(4, 2)[0].tobytes() == again.flow(4, 2)[0].tobytes()
    assert not np.array_equal(a.image, World(name, 6, SIZE, 8).frame(4).image)
    assert not np.array_equal(a.label, World(name, 6, SIZE, 8).frame(4).label)


@BOTH
def test_frames_have_the_promised_types(name: str) -> None:
    frame = world(name).frame(2)
    assert frame.image.shape == (*SIZE, 3) and frame.image.dtype == np.uint8
    assert frame.label.shape == SIZE and frame.label.dtype == np.uint8 and frame.label.max() < len(CLASSES)
    assert np.array_equal(np.isinf(frame.depth), frame.label == CLASSES.index("sky"))
    assert frame.depth.min() > 0
    motion, seen = world(name).flow(2, -2)
    assert motion.shape == (2, *SIZE) and motion.dtype == np.float32 and seen.dtype == bool
    assert np.isfinite(motion).all()


@BOTH
def test_all_classes_appear_with_a_long_tail(name: str) -> None:
    share = labels(name).sum(0) / labels(name).sum()
    assert (share > 1e-4).all(), dict(zip(CLASSES, share.round(5), strict=True))
    ordered = np.sort(share)[::-1]
    assert ordered[:4].sum() > 0.6 and ordered[-6:].sum() < 0.06


def test_the_looks_differ_in_frequencies() -> None:
    source, target = (dict(zip(CLASSES, labels(n).sum(0) / labels(n).sum(), strict=True)) for n in ("source", "target"))
    assert target["person"] > 1.5 * source["person"]
    assert target["bicycle"] > 1.5 * source["bicycle"]
    assert target["vegetation"] > 1.1 * source["vegetation"]
    assert target["truck"] < 0.8 * source["truck"]


@BOTH
@pytest.mark.parametrize("offset", [1, -1, 3])
def test_flow_leads_to_the_same_surface(name: str, offset: int) -> None:
    key, neighbour = world(name).frame(5), world(name).frame(5 + offset)
    motion, seen = world(name).flow(5, offset)
    assert 0.4 < seen.mean() < 1
    assert (warped(neighbour.surface, motion) == key.surface)[seen].all()
    assert (warped(neighbour.label, motion) == key.label)[seen].all()


@BOTH
def test_forward_and_backward_flow_cancel_where_seen(name: str) -> None:
    (forward, seen), (backward, _) = world(name).flow(5, 1), world(name).flow(6, -1)
    surface = world(name).frame(6).surface
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    corners = [(np.floor(y + forward[1]) + i, np.floor(x + forward[0]) + j) for i in (0, 1) for j in (0, 1)]
    inside = [(r >= 0) & (r < SIZE[0]) & (c >= 0) & (c < SIZE[1]) for r, c in corners]
    same = [
        ok
        & (
            surface[r.clip(0, SIZE[0] - 1).astype(int), c.clip(0, SIZE[1] - 1).astype(int)]
            == world(name).frame(5).surface
        )
        for (r, c), ok in zip(corners, inside, strict=True)
    ]
    whole = seen & np.all(same, axis=0)
    error = np.abs(forward + interpolated(backward, forward)).max(0)
    assert whole.sum() > 0.9 * seen.sum() * 0.9
    assert error[whole].max() < 0.1 and np.median(error[whole]) < 2e-3


@BOTH
def test_flow_over_two_frames_is_the_chained_flow(name: str) -> None:
    (one, seen), (then, _), (two, _) = world(name).flow(4, 1), world(name).flow(5, 1), world(name).flow(4, 2)
    error = np.abs(one + interpolated(then, one) - two).max(0)[seen]
    assert np.mean(error < 0.05) > 0.9 and np.median(error) < 2e-3


def test_no_motion_without_time() -> None:
    motion, seen = world("source").flow(3, 0)
    assert seen.all() and np.abs(motion).max() < 1e-2


def stage(camera: np.ndarray) -> list:
    """Views of one upright sign, 2 m wide and 10 m away, at the camera's places."""
    frames = len(camera)
    make = Builder(np.random.default_rng(0), frames)
    make.upright(make.place((-0.03, 0.97, 10)), "pole", 0, 0, 2, 2)
    scene = make.scene(Path(camera, np.zeros(frames), np.zeros(frames)))
    pinhole = np.array([[100, 0, 50], [0, 100, 25], [0, 0, 1.0]])
    pattern, solid = np.array([[-1, 1]] * 2), SOURCE.atlas.solid
    return [look(scene.matrices(t, pinhole), pattern, solid, (51, 101)) for t in range(frames)]


def test_a_known_scene_moves_as_computed_by_hand() -> None:
    key, side, ahead = stage(np.array([[0, 0, 0], [0.5, 0, 0], [0, 0, 5.0]]))
    assert np.array_equal(np.argwhere(key.quad == 1)[[0, -1]], [[15, 40], [34, 59]])
    on = key.quad == 1
    assert np.allclose(1 / key.nearness[on], 10)
    assert np.allclose(flow(key, side)[0][0][on], -5, atol=1e-4)  # f * -0.5 m / 10 m
    assert np.allclose(flow(key, side)[0][:, ~on], 0, atol=1e-4)  # the sky is at infinity
    assert np.allclose(flow(key, ahead)[0][0][on], (np.mgrid[:51, :101][1] - 50)[on], atol=1e-4)  # twice as large
    hidden = ~flow(key, ahead)[1] & ~on
    assert hidden.sum() == 40 * 40 - 20 * 20  # sky that the grown sign covers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("night", 0, SIZE, 2), "night"), (("source", 0, (8, 64), 2), "size"), (("source", 0, SIZE, 0), "frames")],
)
def test_impossible_worlds_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        World(*arguments)


def test_frames_outside_the_drive_are_refused() -> None:
    with pytest.raises(ValueError, match="frame 12"):
        world("source").flow(11, 1)
    with pytest.raises(ValueError, match="frame -1"):
        world("source").frame(-1)
