"""Strengths of the correction by class."""

from __future__ import annotations

import pytest
import torch

from blda.balance.alignment import alignment, correction
from blda.calibration.class_strengths import MOST, class_strengths, strengthened
from blda.calibration.fit import fit_statistics
from blda.calibration.scores import scores


def _problem(seed: int, weak: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (1, 3, 100, 200) of a frequent, a middling and a rare class, the last one lower by `weak`, and labels."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.multinomial(torch.tensor([0.9, 0.08, 0.02]), 20_000, True, generator=generator).view(1, 100, 200)
    logits = 4 * torch.nn.functional.one_hot(label, 3).movedim(-1, 1) + 2 * torch.randn(
        (1, 3, 100, 200), generator=generator
    )
    logits[:, 2] -= weak
    return logits, label


def test_rare_classes_are_corrected_more_and_the_geometric_mean_is_one() -> None:
    strengths = class_strengths(torch.tensor([10_000, 100, 1]), 0.1)
    assert strengths.log().sum().abs() < 1e-5 and strengths[1] == 1
    assert strengths[2] / strengths[0] == pytest.approx(10_000**0.1, rel=1e-5)
    assert torch.equal(class_strengths(torch.tensor([7, 70, 0]), 0.0), torch.ones(3))


def test_strengths_have_limits_and_do_not_depend_on_the_number_of_pixels() -> None:
    pixels = torch.tensor([1e6, 1e3, 1.0])
    assert class_strengths(pixels, 1.0).tolist() == [1 / MOST, 1.0, MOST]
    assert torch.allclose(class_strengths(pixels, 0.1), class_strengths(1000 * pixels, 0.1))


def test_a_class_that_is_never_predicted_keeps_its_strength() -> None:
    strengths = class_strengths(torch.tensor([100, 0, 1]), 0.1)
    assert strengths[1] == 1 and strengths[[0, 2]].log().sum().abs() < 1e-5
    assert torch.equal(class_strengths(torch.zeros(3), 0.5), torch.ones(3))


def test_corrections_are_scaled_row_by_row() -> None:
    logits, label = _problem(0, 0)
    source, target = fit_statistics([(logits, label)], 3), fit_statistics([_problem(1, 2)], 3)
    aligned, strengths = alignment(target, source), torch.tensor([0.5, 1.0, 2.0])
    before = correction(logits, label, [aligned])
    after = correction(logits, label, [strengthened(aligned, strengths)])
    assert torch.allclose(after, strengths[label][:, None] * before, atol=1e-4)
    aligned.active[2] = False
    kept = strengthened(aligned, strengths)
    assert torch.equal(kept.lookup[2], aligned.lookup[2]) and torch.equal(kept.active, aligned.active)


def test_equal_strengths_are_another_tau() -> None:
    logits, label = _problem(0, 0)
    aligned = alignment(fit_statistics([_problem(1, 2)], 3), fit_statistics([(logits, label)], 3))
    twice = strengthened(aligned, torch.full((3,), 2.0))
    assert torch.allclose(scores(logits, twice, 0.1), scores(logits, aligned, 0.2), atol=1e-4)
