"""Street worlds with other densities of things and other sizes of the domain shift."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from blda.config import loading
from blda_video.config import VideoConfig, WorldSpec
from blda_video.street_world.simulator import density
from blda_video.street_world.simulator.domains import LOOKS, SOURCE, TARGET
from blda_video.street_world.simulator.materials import CLASSES, LABEL
from blda_video.street_world.simulator.shift import shifted
from blda_video.street_world.simulator.world import World
from blda_video.street_world.world_writer import check, ensure, settings
from cli import error_of, tool

SIZE = (64, 128)
SHIPPED = Path(__file__).parents[3] / "configs"


@lru_cache(maxsize=8)
def shares(factor: float | None = None, **by_class: float) -> dict[str, float]:
    """Share of each class in the pixels of 16 target streets."""
    total = np.zeros(len(CLASSES))
    for seed in range(16):
        world = World("target", seed, SIZE, 20, by_class if factor is None else factor)
        total += np.bincount(world.frame(8).label.ravel(), minlength=len(CLASSES))
    return dict(zip(CLASSES, total / total.sum(), strict=True))


def spec(root: Path, **changes: object) -> WorldSpec:
    return replace(WorldSpec(root / "world", "viper", "target", "train", 1, 1, (32, 64)), **changes)


def pixels(seed: int, shift: float, look: str = "target") -> np.ndarray:
    return World(look, seed, SIZE, 4, shift=shift).frame(2).image.astype(float)


def test_density_makes_things_rarer_and_commoner() -> None:
    rare, own, common = shares(0.2), shares(1.0), shares(4.0)
    for name in ("person", "car", "pole", "sign"):
        assert rare[name] < 0.7 * own[name] < own[name] < common[name] / 1.3, name
    nothing = shares(0.0)
    assert not any(nothing[name] for name in ("person", "rider", "car", "truck", "bus", "train", "bicycle", "sign"))
    assert nothing["light"] > 0 and nothing["pole"] > 0  # crossings keep their lights on their posts


def test_density_leaves_the_street() -> None:
    scenes = [World("target", 5, SIZE, 4, factor).scene for factor in (0.0, 1.0, 5.0)]
    assert len({len(scene.corner) for scene in scenes}) == 3
    for name in ("road", "sidewalk", "building", "light"):
        here = [scene.corner[LABEL[scene.variant] == CLASSES.index(name)] for scene in scenes]
        assert len(here[0]) and all(np.array_equal(each, here[0]) for each in here), name


def test_one_class_alone_becomes_commoner() -> None:
    own, people = shares(1.0), shares(person=4.0)
    assert people["person"] > 2 * own["person"]
    assert abs(people["car"] / own["car"] - 1) < 0.3
    assert density.of_habits(TARGET.habits, {"truck": 100 / 10}).rare["truck"] == 1  # at most every drive


def test_one_is_the_world_as_it_always_was() -> None:
    assert density.of_habits(SOURCE.habits, 1) == SOURCE.habits
    assert density.of_habits(TARGET.habits, {"car": 1.0}) == TARGET.habits
    assert all(shifted(name, 1.0) is look for name, look in LOOKS.items())


def test_images_approach_the_source_and_labels_stay() -> None:
    own = np.mean([pixels(seed, 1.0) for seed in range(4)], axis=0)
    distances = [np.abs(np.mean([pixels(seed, s) for seed in range(4)], axis=0) - own).mean() for s in (0, 0.5)]
    assert distances[0] > 1.5 * distances[1] > 1
    labels = [World("target", 1, SIZE, 4, shift=shift).frame(2).label for shift in (0, 0.5)]
    assert all(np.array_equal(label, World("target", 1, SIZE, 4).frame(2).label) for label in labels)
    assert np.array_equal(pixels(1, 0.3, "source"), pixels(1, 1.0, "source"))


def test_no_shift_has_the_colours_and_the_camera_of_the_source() -> None:
    none = shifted("target", 0)
    assert none.style == SOURCE.style and none.light == SOURCE.light and none.habits.paints == SOURCE.habits.paints
    assert none.lens == SOURCE.lens
    assert none.habits == replace(TARGET.habits, paints=SOURCE.habits.paints)
    far = shifted("target", 2)
    assert far.lens.jpeg == 40 and all(0 <= v <= 1 for colors in far.style.palette.values() for c in colors for v in c)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"density": {"persn": 2}}, "no thing 'persn'.*did you mean 'person'"),
        ({"density": {"sky": 2}}, "no thing 'sky'"),
        ({"density": -1}, "density is -1; give a factor of 0 to 10"),
        ({"density": {"car": 11}}, "density.car is 11"),
        ({"density": True}, "density is True"),
        ({"density": "many"}, "density is 'many'"),
        ({"density": float("nan")}, "density is nan"),
        ({"shift": 2.5}, "shift is 2.5; give 0"),
    ],
)
def test_impossible_densities_and_shifts_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(spec(tmp_path, **changes))


def test_a_world_remembers_its_density_and_shift(tmp_path: Path) -> None:
    asked = spec(tmp_path, density={"person": 3}, shift=0.5)
    ensure(asked, progress=False)
    ensure(asked, progress=False)
    for other in ({"density": 1}, {"shift": 1.0}, {"density": {"person": 2}}):
        with pytest.raises(ValueError, match=f"other settings.*{next(iter(other))}"):
            ensure(replace(asked, **other), progress=False)
    assert "density" not in settings(spec(tmp_path)) and "shift" not in settings(spec(tmp_path))


def test_a_config_chooses_both(tmp_path: Path) -> None:
    overrides = ["worlds.0.density=0.3", "worlds.1.density={person: 3}", "worlds.1.shift=0.5"]
    worlds = loading.load(SHIPPED / "demo.yaml", VideoConfig, overrides).worlds
    assert [world.density for world in worlds] == [0.3, {"person": 3}, 1.0] and worlds[1].shift == 0.5
    with pytest.raises(ValueError, match="shift is -1"):
        loading.load(SHIPPED / "demo.yaml", VideoConfig, ["worlds.1.shift=-1"])


def test_the_command_chooses_both(tmp_path: Path) -> None:
    small = ("--layout", "viper", "--root", tmp_path / "world", "--split", "train", "--sequences", 1, "--frames", 1)
    tool("make_world", *small, "--size", 32, 64, "--look", "target", "--density", 0.5, "--shift", 0.5)
    assert "density: 0.5, asked 1" in error_of("make_world", *small, "--size", 32, 64, "--look", "target")
    assert "density is 20.0" in error_of("make_world", *small, "--density", 20)
