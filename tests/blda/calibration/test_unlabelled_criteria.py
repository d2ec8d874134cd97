"""Criteria without labels: what they are on known predictions, and that a better network has better ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from blda.calibration.unlabelled_criteria import (
    CRITERIA,
    UnlabelledCriteria,
    confusion,
    divergence,
    expected_confusion,
    mean_iou,
    mean_ranks,
)

CLASSES, SIZE = 4, (24, 32)


def _truth(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(CLASSES, (1, SIZE[0] // 4, SIZE[1] // 4), generator=generator)
    return blocks.repeat_interleave(4, 1).repeat_interleave(4, 2)


def _logits(truth: Tensor, seed: int, strength: float, lost: int | None = None) -> Tensor:
    """Logits that favour the truth by `strength` in unit noise; the class `lost` is never predicted."""
    noise = torch.randn(1, CLASSES, *SIZE, generator=torch.Generator().manual_seed(seed))
    logits = strength * torch.nn.functional.one_hot(truth, CLASSES).movedim(-1, 1) + noise
    if lost is not None:
        logits[:, lost] = -9
    return logits


def _criteria(strength: float, lost: int | None = None, teacher: bool = True, images: int = 4) -> dict[str, float]:
    criteria = UnlabelledCriteria(torch.full((CLASSES,), 100))
    for i in range(images):
        views = [_logits(_truth(i), 3 * i + k, strength, lost) for k in range(3)]
        criteria.update(*(views if teacher else views[:2]))
    return criteria.compute()


def test_a_network_that_knows_more_has_better_criteria():
    weak, strong = _criteria(1.0), _criteria(4.0)
    for name in set(weak) - {"bias_spread", "share_divergence"}:
        assert CRITERIA[name] * (strong[name] - weak[name]) > 0, name


def test_a_network_that_gives_up_a_class_has_worse_criteria():
    whole, poor = _criteria(6.0), _criteria(6.0, lost=2)
    for name in set(whole) - {"entropy"}:
        assert CRITERIA[name] * (whole[name] - poor[name]) > 0, name
    assert mean_ranks([whole, poor]) == [1, 0]


def test_without_a_teacher_its_criterion_is_unknown_and_the_others_are_the_same():
    alone, taught = _criteria(3.0, teacher=False), _criteria(3.0)
    assert math.isnan(alone.pop("teacher_mIoU"))
    assert alone == {name: taught[name] for name in alone}


def test_information_is_zero_for_one_class_everywhere_and_log_of_the_classes_at_best():
    sure = UnlabelledCriteria(torch.ones(CLASSES))
    labels = torch.arange(CLASSES).repeat(SIZE[0], SIZE[1] // CLASSES)[None]
    sure.update(*[99.0 * torch.nn.functional.one_hot(labels, CLASSES).movedim(-1, 1)] * 2)
    assert sure.compute()["information"] == pytest.approx(math.log(CLASSES), abs=1e-5)
    assert sure.compute()["share_divergence"] == pytest.approx(0, abs=1e-9)
    same = UnlabelledCriteria(torch.ones(CLASSES))
    same.update(*[99.0 * torch.nn.functional.one_hot(0 * labels, CLASSES).movedim(-1, 1)] * 2)
    assert same.compute()["information"] == pytest.approx(0, abs=1e-5)
    assert same.compute()["mirrored_mIoU"] == pytest.approx(100 / CLASSES)


def test_the_expected_confusion_is_right_where_probabilities_are():
    """Labels drawn from the probabilities give the confusion that is expected of them."""
    probabilities = _logits(_truth(0), 1, 1.5).softmax(1)
    predicted = probabilities.argmax(1)
    drawn = torch.zeros(CLASSES, CLASSES).double()
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        truth = torch.multinomial(probabilities[0].flatten(1).t(), 1, generator=generator).view(1, *SIZE)
        drawn += confusion(truth, predicted, CLASSES) / 30
    expected = expected_confusion(probabilities, predicted)
    torch.testing.assert_close(expected, drawn, atol=8.0, rtol=0.05)
    assert mean_iou(expected, torch.ones(CLASSES) > 0) == pytest.approx(
        mean_iou(drawn, torch.ones(CLASSES) > 0), abs=1.0
    )


def test_a_class_that_the_source_lacks_is_left_out_and_one_never_predicted_counts_as_zero():
    counts = torch.diag(torch.tensor([5.0, 0.0, 3.0]))
    assert mean_iou(counts, torch.tensor([True, True, False])) == pytest.approx(50)


def test_divergence_is_zero_for_equal_and_one_for_disjoint_shares():
    one, other = torch.tensor([0.5, 0.5, 0.0]).double(), torch.tensor([0.0, 0.0, 1.0]).double()
    assert divergence(one, one) == 0
    assert divergence(one, other) == pytest.approx(1)
    assert divergence(one, other) == divergence(other, one)


def test_scores_are_mean_ranks_and_an_unknown_criterion_is_left_out_for_all():
    candidates = [
        {"information": 1.0, "bias_spread": 0.3, "expected_mIoU": math.nan},
        {"information": 2.0, "bias_spread": 0.1, "expected_mIoU": 9.0},
        {"information": 2.0, "bias_spread": 0.2, "expected_mIoU": 1.0},
    ]
    assert mean_ranks(candidates) == pytest.approx([0, 0.875, 0.625])
    with pytest.raises(ValueError, match=r"no criterion .* is known"):
        mean_ranks([{}, {}])
