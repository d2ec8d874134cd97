"""Protocols on confusion matrices made by hand (rows = truth, columns = prediction)."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from blda import atomic
from blda.data.label_map import CITYSCAPES19, CLASS_LISTS
from blda.data.protocols import PROTOCOLS, Protocol, protocol_of
from blda.engine.metrics import MeanIoU
from blda.engine.run_log import RunLog


def confusion(classes: tuple[str, ...], **pairs: int) -> np.ndarray:
    """Counts given as truth__prediction=pixels."""
    counts = np.zeros((len(classes), len(classes)))
    for pair, pixels in pairs.items():
        truth, prediction = pair.split("__")
        counts[classes.index(truth), classes.index(prediction)] += pixels
    return counts


def test_all_classes_by_hand() -> None:
    scores = protocol_of(("a", "b")).scores(torch.tensor([[6.0, 2.0], [1.0, 3.0]]), ("a", "b"))
    assert scores["iou/a"] == pytest.approx(100 * 6 / 9)
    assert scores["iou/b"] == pytest.approx(100 * 3 / 6)
    assert scores["acc/a"] == pytest.approx(75)
    assert scores["mIoU"] == pytest.approx(100 * (6 / 9 + 3 / 6) / 2)
    assert scores["mAcc"] == pytest.approx(75)
    assert scores["std"] == pytest.approx(100 * (6 / 9 - 3 / 6) / 2)
    assert all(type(value) is float for value in scores.values())


def test_absent_and_only_predicted_classes() -> None:
    classes = ("a", "b", "c")
    scores = protocol_of(classes).scores(confusion(classes, a__a=3, a__b=1), classes)
    assert scores["iou/b"] == 0
    assert math.isnan(scores["acc/b"])
    assert math.isnan(scores["iou/c"])
    assert scores["mIoU"] == pytest.approx((75 + 0) / 2)
    assert scores["mAcc"] == pytest.approx(75)


def test_no_pixels_at_all() -> None:
    scores = protocol_of(("a", "b")).scores(np.zeros((2, 2)), ("a", "b"))
    assert scores.pop("protocol_classes") == 2
    assert scores.pop("mIoU_classes") == scores.pop("mAcc_classes") == 0
    assert all(math.isnan(value) for value in scores.values())


def test_viper15_merges_rider_and_counts_other_predictions_as_errors() -> None:
    counts = confusion(
        CITYSCAPES19, person__person=4, rider__person=2, person__rider=1, rider__rider=1,
        road__road=6, road__wall=2, wall__road=50, pole__pole=9, person__train=2,
    )  # fmt: skip
    scores = PROTOCOLS["viper15"].scores(counts, CITYSCAPES19)
    assert scores["iou/person"] == pytest.approx(80)
    assert scores["iou/road"] == pytest.approx(75)
    assert "iou/rider" not in scores and "iou/wall" not in scores


def test_viper15_uvda_drops_rider_and_pixels_predicted_as_other_classes() -> None:
    counts = confusion(
        CITYSCAPES19, person__person=4, rider__person=2, person__rider=1, road__road=6, road__wall=2, road__car=2
    )
    scores = PROTOCOLS["viper15_uvda"].scores(counts, CITYSCAPES19)
    assert scores["iou/person"] == pytest.approx(100)
    assert scores["iou/road"] == pytest.approx(75)


def test_viper15_scores_a_run_of_15_classes_whose_truth_was_renamed() -> None:
    protocol, classes = PROTOCOLS["viper15"], CLASS_LISTS["viper15"]
    assert protocol.renaming(classes, CITYSCAPES19) == {"rider": "person"}
    assert protocol.renaming(CITYSCAPES19, CITYSCAPES19) == {}
    assert protocol.renaming(classes, classes) == {}
    assert protocol.scores(np.eye(15), classes)["mIoU"] == pytest.approx(100)


def test_synthia16_is_the_scaled_mean_over_19() -> None:
    counts = np.random.default_rng(0).integers(1, 100, (19, 19)).astype(float)
    absent = [CITYSCAPES19.index(name) for name in ("terrain", "truck", "train")]
    counts[:, absent] = 0  # a network that never saw them never predicts them
    nineteen = PROTOCOLS["cityscapes19"].scores(counts, CITYSCAPES19)
    sixteen = PROTOCOLS["synthia16"].scores(counts, CITYSCAPES19)
    assert sixteen["mIoU"] == pytest.approx(nineteen["mIoU"] * 19 / 16)
    assert PROTOCOLS["synthia13"].scores(counts, CITYSCAPES19)["iou/car"] == pytest.approx(nineteen["iou/car"])


def test_synthia_seq11_keeps_fence_truth_and_drops_the_rest() -> None:
    counts = confusion(CITYSCAPES19, road__road=6, fence__road=2, wall__road=50)
    assert PROTOCOLS["synthia_seq11"].scores(counts, CITYSCAPES19)["iou/road"] == pytest.approx(75)


def test_user_defined_order_is_by_name() -> None:
    counts = confusion(("x", "a", "b"), a__a=3, b__a=1, b__b=1)
    scores = Protocol("mine", ("b", "a")).scores(counts, ("x", "a", "b"))
    assert list(scores)[3:5] == ["iou/b", "iou/a"]
    assert scores["iou/b"] == pytest.approx(50)
    assert scores["iou/a"] == pytest.approx(75)


def test_missing_class_and_wrong_shape_are_errors() -> None:
    with pytest.raises(ValueError, match=r"protocol cityscapes19 scores sidewalk.*does not have"):
        PROTOCOLS["cityscapes19"].scores(np.eye(1), ("road",))
    with pytest.raises(ValueError, match=r"\(3, 3\) for 2 classes"):
        protocol_of(("a", "b")).scores(np.eye(3), ("a", "b"))


STREET = confusion(
    CITYSCAPES19, road__road=60, road__wall=10, road__terrain=10, road__car=20, wall__road=12, wall__wall=8,
    fence__road=4, fence__fence=6, terrain__road=8, terrain__terrain=2, person__person=5, person__rider=3,
    person__car=2, rider__person=4, rider__rider=6, car__car=50, truck__car=10,
)  # fmt: skip
BY_HAND = {
    "cityscapes19": {
        "road": (60, 124), "wall": (8, 30), "fence": (6, 10), "terrain": (2, 20), "person": (5, 14), "rider": (6, 13),
        "car": (50, 82), "truck": (0, 10),
    },
    "synthia16": {
        "road": (60, 124), "wall": (8, 30), "fence": (6, 10), "person": (5, 14), "rider": (6, 13), "car": (50, 82),
    },
    "synthia13": {"road": (60, 124), "person": (5, 14), "rider": (6, 13), "car": (50, 82)},
    "viper15": {
        "road": (60, 112), "fence": (6, 10), "terrain": (2, 20), "person": (18, 20), "car": (50, 82), "truck": (0, 10),
    },
    "viper15_uvda": {
        "road": (60, 102), "fence": (6, 10), "terrain": (2, 20), "person": (5, 7), "car": (50, 82), "truck": (0, 10),
    },
    "synthia_seq11": {"road": (60, 104), "person": (5, 14), "rider": (6, 13), "car": (50, 72)},
    "synthia_seq11_uvda": {"road": (60, 80), "person": (5, 14), "rider": (6, 13), "car": (50, 72)},
}  # fmt: skip
"""Of every class that is met: pixels in the intersection and in the union."""
BY_HAND["bdd19"] = BY_HAND["cityscapes19"]

CAMVID = confusion(CLASS_LISTS["camvid11"], road__road=6, road__pavement=2, pavement__road=1, tree__tree=3)
BY_HAND["camvid11"] = {"road": (6, 9), "pavement": (0, 3), "tree": (3, 3)}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_named_protocols_by_hand(name: str) -> None:
    camvid = name == "camvid11"
    classes = CLASS_LISTS["camvid11"] if camvid else CITYSCAPES19
    scores = PROTOCOLS[name].scores(CAMVID if camvid else STREET, classes)
    expected = {key: 100 * hits / union for key, (hits, union) in BY_HAND[name].items()}
    for key in PROTOCOLS[name].classes:
        value = scores[f"iou/{key}"]
        assert value == pytest.approx(expected[key]) if key in expected else math.isnan(value), key
    assert scores["mIoU"] == pytest.approx(sum(expected.values()) / len(expected))
    assert scores["std"] == pytest.approx(np.std(list(expected.values())))


ROAD_RECALL = {
    "cityscapes19": (60, 100),
    "viper15": (60, 100),
    "viper15_uvda": (60, 90),
    "synthia_seq11_uvda": (60, 80),
}


@pytest.mark.parametrize("name", ROAD_RECALL)
def test_accuracy_by_hand(name: str) -> None:
    hits, truth = ROAD_RECALL[name]
    assert PROTOCOLS[name].scores(STREET, CITYSCAPES19)["acc/road"] == pytest.approx(100 * hits / truth)


def test_synthia_seq11_scores_the_twelve_classes_of_da_vsn() -> None:
    twelve = CLASS_LISTS["synthia_seq12"]
    kept = [CITYSCAPES19.index(name) for name in twelve]
    scores = PROTOCOLS["synthia_seq11"].scores(STREET[np.ix_(kept, kept)], twelve)
    assert scores["iou/road"] == pytest.approx(100 * 60 / 84), "fence taken for road is an error, fence has no number"
    assert "iou/fence" not in scores
    assert PROTOCOLS["synthia_seq11"].renaming(twelve, CITYSCAPES19) == {}, "rider stays rider"


def test_user_defined_merges_keeps_and_drops() -> None:
    classes = ("a", "b", "c", "d")
    counts = confusion(classes, a__a=4, a__b=1, a__c=1, b__a=2, c__a=1, c__c=5, d__a=3, a__d=7)
    merged = Protocol("mine", ("a", "c"), merge={"b": "a"}).scores(counts, classes)
    assert merged["iou/a"] == pytest.approx(100 * 7 / (15 + 1)), "truth 15 of a and b, one c taken for a"
    assert merged["iou/c"] == pytest.approx(100 * 5 / 7)
    kept = Protocol("mine", ("a", "c"), kept=("d",)).scores(counts, classes)
    assert kept["iou/a"] == pytest.approx(100 * 4 / (13 + 1 + 3))
    dropped = Protocol("mine", ("a", "c"), drop_predictions=True).scores(counts, classes)
    assert dropped["iou/a"] == pytest.approx(100 * 4 / (5 + 1))


def test_scores_of_a_run_carry_the_names_of_their_protocols() -> None:
    metric = MeanIoU(CITYSCAPES19, (PROTOCOLS["viper15"], PROTOCOLS["viper15_uvda"]))
    metric.counts = torch.tensor(STREET)
    scores = metric.compute()
    for name in ("viper15", "viper15_uvda"):
        for key, value in PROTOCOLS[name].scores(STREET, CITYSCAPES19).items():
            assert scores[f"{name}/{key}"] == pytest.approx(value, nan_ok=True)
    assert scores["mIoU"] == scores["viper15/mIoU"] != scores["viper15_uvda/mIoU"]


def test_the_log_names_the_protocol_of_bare_numbers(tmp_path: Path) -> None:
    log = RunLog(tmp_path, CITYSCAPES19, protocol="viper15")
    log.numbers(1, {"loss": 2.0}, {})
    log.scores(1, {"mIoU": 40.0, "iou/sky": math.nan})
    log.close()
    training, evaluation = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert training == {"step": 1, "train/loss": 2.0}
    assert evaluation == {"step": 1, "protocol": "viper15", "target/mIoU": 40.0, "target/iou/sky": None}


def test_a_result_file_begins_with_its_protocol(tmp_path: Path) -> None:
    atomic.write_numbers(tmp_path / "result.json", {"mIoU": 40.0, "std": math.nan}, protocol="viper15")
    assert json.loads((tmp_path / "result.json").read_text()) == {"protocol": "viper15", "mIoU": 40.0, "std": None}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_named_protocols_are_perfect_on_a_perfect_prediction(name: str) -> None:
    classes = CLASS_LISTS["camvid11"] if name == "camvid11" else CITYSCAPES19
    scores = PROTOCOLS[name].scores(torch.eye(len(classes), dtype=torch.float64), classes)
    assert PROTOCOLS[name].name == name
    assert scores["mIoU"] == pytest.approx(100)
    assert scores["std"] == pytest.approx(0)
