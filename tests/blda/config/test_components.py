"""Parts of a config: what cannot be made says where and how to mend it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pytest
import torch

from blda.config.components import construct
from blda.config.keyword_types import fits
from blda.data.readers.image_folder import FolderReader


class Wheel:
    def __init__(self, size: int, spokes: int = 8) -> None:
        self.size, self.spokes = size, spokes


KNOWN = {"wheel": Wheel, "sail": dict}


def test_keywords_and_fixed_ones_reach_the_constructor() -> None:
    part = {"name": "wheel", "spokes": 3}
    made = construct("car.wheel", part, KNOWN, size=2)
    assert (made.size, made.spokes) == (2, 3) and part == {"name": "wheel", "spokes": 3}


@pytest.mark.parametrize("part", [{"size": 2}, {"name": None, "size": 2}, {"name": ["wheel"]}, {}, None, "wheel"])
def test_a_part_without_a_name_says_what_it_is_and_what_to_write(part: object) -> None:
    with pytest.raises(ValueError) as raised:
        construct("car.wheel", part, KNOWN)
    assert str(raised.value) == f"car.wheel: {part!r} names no part; write {{name: WHICH, ...}} with one of wheel, sail"


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        ({"name": "weel"}, "car.wheel: unknown name 'weel'; did you mean 'wheel'"),
        ({"name": "wheel", "siz": 2}, "car.wheel: wheel has no 'siz'; did you mean 'size'"),
        ({"name": "wheel"}, "car.wheel: wheel needs 'size'"),
    ],
)
def test_other_mistakes_are_named(part: dict, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        construct("car.wheel", part, KNOWN)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"ids": ["sky", "road"]}, "source.reader: ids must be a mapping of an integer to text"),
        ({"ids": {0: "sky"}, "ignored": 255}, "source.reader: ignored must be a list of integers, not 255"),
        ({"ids": {0: "sky"}, "ignored": ["255"]}, "source.reader: ignored must be a list of integers"),
        ({"ids": {"sky": 0, "road": 1}}, "turn it round"),
        ({"ids": {0: False, 1: True}}, "put them in quotes"),
        ({"image_suffix": [".jpg", ".png"]}, "source.reader: image_suffix must be text, not"),
        ({"labelled": 3}, "source.reader: labelled must be true or false or null"),
        ({"folders": "one"}, "source.reader: folders must be a list of texts"),
        ({"images": None}, "source.reader: images must be text"),
    ],
)
def test_a_keyword_of_another_type_is_refused_by_its_key(keywords, message):
    part = {"name": "folder", "images": "nowhere", "labels": "nowhere", **keywords}
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        construct("source.reader", part, {"folder": FolderReader})
    assert "\n" not in str(caught.value)


def test_values_of_every_annotation_fit_as_yaml_and_json_write_them():
    for value, hint in (
        ({"0": "sky", 1: "road"}, Mapping[int, str]),
        ([1, 2], tuple[int, ...]),
        ((1, 2), Sequence[int]),
        (1, float),
        (None, str | None),
        ("a", str | Path),
        ("xs", Literal["xs", "s"]),
        (object(), torch.nn.Module),
        ([[0.5]], Sequence[Sequence[float]]),
    ):
        assert fits(value, hint), (value, hint)
    for value, hint in (
        (True, int),
        (1.0, int),
        (math.nan, float),
        ("1", float),
        ("ab", Sequence[str]),
        ([1], tuple[int, int]),
        ("x", Literal["s"]),
        ({"a": "b"}, Mapping[int, str]),
    ):
        assert not fits(value, hint), (value, hint)
