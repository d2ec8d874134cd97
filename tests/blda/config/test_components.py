"""Parts of a config: what cannot be made says where and how to mend it."""

from __future__ import annotations

import pytest

from blda.config.components import construct


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
