"""One walk over the whole schema: every number has a range, and what lies outside is refused by its key's name."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from blda.config import loading
from blda.config.classification import ClassifyConfig
from blda.config.ranges import Range
from blda.config.schema import Config
from blda_video.config import VideoConfig

READER = {"name": "x", "root": "y"}
WORLD = {"root": "w", "layout": "viper", "look": "source"}
SMALL = {
    "run": "runs/x",
    "method": "source_only",
    "model": {"encoder": READER, "head": READER},
    **{part: {"reader": READER} for part in ("source", "target", "evaluation")},
}
NOT_OF_CLASSIFIERS = ("model.hrda", "feature_distance")
KINDS = {"image": Config, "video": VideoConfig, "classifier": ClassifyConfig}


@dataclasses.dataclass(frozen=True)
class Number:
    """A number of the schema: its key, its type, its range (None without), and how a value stands in its place."""

    path: str
    kind: type
    range: Range | None
    place: tuple[Any, ...]

    def tree(self, value: Any) -> Any:
        """A config that sets it and nothing else; `place` is a chain of keys and of lengths of lists."""
        for step in reversed(self.place):
            value = {step: value} if isinstance(step, str) else [value] * step
        return value


def numbers(hint: Any, path: str = "", place: tuple[Any, ...] = ()) -> Iterator[Number]:
    """All int and float of a type, below dataclasses, tuples and options."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        yield Number(path, inner[0], next((note for note in inner[1:] if isinstance(note, Range)), None), place)
    elif hint in (int, float):
        yield Number(path, hint, None, place)
    elif origin is tuple:
        size = 1 if inner[-1] is Ellipsis else len(inner)
        yield from numbers(inner[0], path, (*place, size))
    elif origin in (typing.Union, types.UnionType):
        for option in inner:
            yield from numbers(option, path, place)
    elif dataclasses.is_dataclass(hint):
        for name, item in typing.get_type_hints(hint, include_extras=True).items():
            if name == "others":  # of the same kind, without end
                continue
            yield from numbers(item, f"{path}.{name}".strip("."), (*place, name))


ALL = [(name, number) for name, kind in KINDS.items() for number in numbers(kind)]


def _merged(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return {key: _merged(below.get(key), above.get(key)) if key in above else below[key] for key in below | above}
    return above if above is not None else below


def _config(number: Number, value: Any) -> dict:
    tree = number.tree(value)
    if number.path.startswith("worlds"):
        tree = {"worlds": [_merged(WORLD, tree["worlds"][0])]}
    if number.path.startswith("motion"):
        tree["motion"]["weights"] = "motion.pt"
    if number.path == "evaluation.stride":
        tree["evaluation"]["window"] = [8, 8]
    return _merged(SMALL, tree)


def _outside(number: Number) -> list[Any]:
    low, high = number.range.low, number.range.high
    step = 1 if number.kind is int else 1e-6
    found = [] if low == -math.inf else [low if number.range.above else low - step, -1e9 if low > -1e9 else low - 1e9]
    found += [] if high == math.inf else [high if number.range.below else high + step, 1e9]
    if number.kind is float:
        return [*found, math.nan, math.inf, -math.inf]
    return [int(value) for value in found]


def _load(tmp_path: Path, kind: type, tree: dict) -> Any:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return loading.load(path, kind)


@pytest.mark.parametrize(("name", "number"), ALL, ids=lambda item: getattr(item, "path", item))
def test_every_number_has_a_range_and_outside_it_is_refused(name: str, number: Number, tmp_path: Path) -> None:
    assert number.range is not None, f"{number.path} has no range; write one as its type, see blda/config/ranges.py"
    outside = _outside(number)
    assert outside, f"{number.path} has a range without an end"
    for value in outside:
        with pytest.raises(ValueError, match=rf"\b{number.path.rpartition('.')[2]} is .*; it must be") as caught:
            _load(tmp_path, KINDS[name], _config(number, value))
        assert "\n" not in str(caught.value)


def test_the_walk_finds_the_numbers_of_all_kinds() -> None:
    found = {name: {number.path for other, number in ALL if other == name} for name in KINDS}
    assert {"optimizer.lr", "source.rare.temperature", "model.hrda.detail", "self_training.masked.ratio"} <= found[
        "image"
    ]
    assert found["video"] - found["image"] >= {"chain", "smoothing.scale", "worlds.size", "offsets"}
    assert found["classifier"] - found["image"] >= {"classification.memory", "classification.mask.block"}
    assert len(found["image"]) > 50


@pytest.mark.parametrize(("name", "number"), ALL, ids=lambda item: getattr(item, "path", item))
def test_the_ends_of_a_range_are_accepted(name: str, number: Number, tmp_path: Path) -> None:
    low, high = number.range.low, number.range.high
    ends = [
        end for end, out in ((low, number.range.above), (high, number.range.below)) if math.isfinite(end) and not out
    ]
    for end in ends:
        if number.path != "resolution" and not (name == "classifier" and number.path.startswith(NOT_OF_CLASSIFIERS)):
            _load(tmp_path, KINDS[name], _config(number, number.kind(end)))


def test_crops_that_cannot_be_mixed_are_refused(tmp_path: Path) -> None:
    sizes = {"source": {"crop": [64, 64]}, "target": {"crop": [96, 96]}}
    with pytest.raises(ValueError, match=r"source\.crop is \[64, 64\] and target\.crop \[96, 96\].*same crop"):
        _load(tmp_path, Config, _merged(SMALL, {**sizes, "method": "blda"}))
    with pytest.raises(ValueError, match=r"source\.crop is null"):
        _load(tmp_path, Config, _merged(SMALL, {"target": {"crop": [96, 96]}, "compare": ["self_training"]}))
    _load(tmp_path, Config, _merged(SMALL, sizes))
    same = {part: {"crop": [96, 96]} for part in sizes}
    _load(tmp_path, Config, _merged(SMALL, {**same, "method": "blda"}))
    _load(
        tmp_path, Config, _merged(SMALL, {"source": {"resize": [9, 9]}, "target": {"crop": [9, 9]}, "method": "blda"})
    )


@pytest.mark.parametrize("base", ["run.yaml", "other.yaml", "[run.yaml]", "3", "{a: 1}"])
def test_a_base_that_is_the_file_itself_is_refused(tmp_path: Path, base: str) -> None:
    (tmp_path / "other.yaml").write_text("base: run.yaml\n")
    (tmp_path / "run.yaml").write_text(f"base: {base}\n")
    with pytest.raises(ValueError, match=r"run\.yaml: base|base: .*run\.yaml"):
        loading.load(tmp_path / "run.yaml", Config)
