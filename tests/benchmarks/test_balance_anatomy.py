"""The benchmark that takes the balanced loss apart: what it sums is right."""

import pytest
import torch

import balance_anatomy
from blda.balance.alignment import alignment
from blda.balance.logit_statistics import LogitStatistics

CLASSES = ("road", "car", "sky")


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (2, 3, 16, 24) in which the first class leads too often, and the labels that they are of."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, len(CLASSES), (2, 16, 24), generator=generator)
    hot = torch.nn.functional.one_hot(truth, len(CLASSES)).movedim(-1, 1).float()
    logits = 2 * hot + torch.randn(2, len(CLASSES), 16, 24, generator=generator)
    logits[:, 0] += 1.5
    return logits, truth


def anatomy(tau: float) -> dict:
    """Sums over one batch, with statistics counted by its true labels."""
    logits, truth = batch()
    statistics = LogitStatistics(len(CLASSES), momentum=0.0, min_pixels=1)
    for _ in range(5):
        statistics.update(logits, truth)
    sums = balance_anatomy.Sums(len(CLASSES))
    sums.add(logits, logits.argmax(1), truth, alignment(statistics, statistics), tau)
    return sums.report(CLASSES)


def test_without_strength_nothing_is_demanded_or_changed():
    plain = anatomy(0.0)
    assert all(value == pytest.approx(0, abs=1e-6) for value in plain["margin"].values())
    assert all(value == pytest.approx(1, abs=1e-3) for value in plain["pull"].values())
    assert plain["flips_percent"] == 0


def test_a_class_that_is_predicted_too_rarely_must_lead_by_more():
    found = anatomy(1.0)
    assert found["margin"]["car"] > found["margin"]["road"] + 0.5
    assert found["pull"]["car"] > found["pull"]["road"]
    assert found["flips_percent"] > 0
    assert found["right_percent_of_flips"] > found["wrong_percent_of_flips"]
