"""Raw ids to class indices."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from blda.data.label_map import CLASS_LISTS, label_lookup
from blda.data.protocols import PROTOCOLS
from blda.data.sample import IGNORE

IDS = {1: "road", 2: "person", 3: "rider", 7: "tree", 300: "sky"}
PATH = Path("x/label.png")


def test_maps_names_renames_and_ignores() -> None:
    lookup = label_lookup(IDS, (0, 255), ("sky", "bicyclist", "road"), {"rider": "bicyclist"})
    raw = np.array([[0, 1, 2], [3, 300, 255]], np.uint16)
    expected = [[IGNORE, 2, IGNORE], [1, 0, IGNORE]]
    assert lookup(raw, PATH).tolist() == expected
    assert lookup(raw, PATH).dtype == np.uint8
    assert pickle.loads(pickle.dumps(lookup))(raw, PATH).tolist() == expected
    assert lookup(raw.astype(np.int32), PATH).tolist() == expected


def test_two_classes_merge_by_renaming() -> None:
    lookup = label_lookup(IDS, (), ("person",), {"rider": "person"})
    assert lookup(np.array([[2, 3, 1]], np.uint8), PATH).tolist() == [[0, 0, IGNORE]]


@pytest.mark.parametrize("raw", [np.array([[1, 9, 254]], np.uint8), np.array([[-1, 9, 70000]], np.int32)])
def test_unknown_ids_are_named(raw: np.ndarray) -> None:
    lookup = label_lookup(IDS, (0, 255), ("road",))
    with pytest.raises(ValueError, match=r"x/label\.png holds unknown ids .*9, .*add") as error:
        lookup(raw, PATH)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("ids", "ignored", "classes", "rename", "message"),
    [
        (IDS, (), ("road",), {"ridr": "road"}, "no class 'ridr'; did you mean 'rider'"),
        (IDS, (), ("road", "person"), {"rider": "persn"}, "no class 'persn'.*did you mean 'person'"),
        (IDS, (), ("car",), {}, "share no name"),
        (IDS, (1, 2), ("road",), {}, r"\[1, 2\] have a class and are ignored"),
        ({-1: "road"}, (), ("road",), {}, "within 0..65535"),
        (IDS, (), ("road", "road"), {}, "must differ"),
    ],
)
def test_contradictions_are_errors(ids: dict, ignored: tuple, classes: tuple, rename: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_lookup(ids, ignored, classes, rename)


def test_named_lists_have_their_published_lengths() -> None:
    for name, classes in CLASS_LISTS.items():
        assert name.endswith(str(len(classes)))
        assert name not in PROTOCOLS or PROTOCOLS[name].classes == classes
