"""Protocols on confusion matrices made by hand (rows = truth, columns = prediction)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from blda.data.label_space import CITYSCAPES19, CLASS_LISTS
from blda.data.protocols import PROTOCOLS, Protocol, protocol_of


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


@pytest.mark.parametrize("name", PROTOCOLS)
def test_named_protocols_are_perfect_on_a_perfect_prediction(name: str) -> None:
    scores = PROTOCOLS[name].scores(torch.eye(19, dtype=torch.float64), CITYSCAPES19)
    assert PROTOCOLS[name].name == name
    assert scores["mIoU"] == pytest.approx(100)
    assert scores["std"] == pytest.approx(0)
