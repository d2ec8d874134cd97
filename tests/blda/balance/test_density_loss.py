"""Cumulative density and its regression loss, and the reweighted loss."""

import pytest
import torch
from torch import Tensor

import reference
from blda.balance.alignment import cumulative_density
from blda.balance.balanced_criterion import BalancedCriterion
from blda.balance.cross_entropy import cross_entropy
from blda.balance.density_loss import DensityLoss
from blda.balance.logit_statistics import LogitStatistics
from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import IGNORE, Sample
from blda.models.density_regression import DensityRegression, Output
from blda.models.encoders.small import SmallEncoder
from blda.models.heads.daformer import DAFormerHead
from blda.models.heads.deeplab import DeepLabV2Head
from blda.models.segmenter import Segmenter
from blda.selftraining.criterion import AdjustedLoss, ReweightedLoss

CLASSES = 4


def _batch() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    label = torch.randint(CLASSES, (2, 16, 20), generator=g)
    label[:, :2] = IGNORE
    own = torch.nn.functional.one_hot(label.clamp(max=CLASSES - 1), CLASSES).movedim(-1, 1)
    return torch.randn(2, CLASSES, 16, 20, generator=g) + 3 * own, label


def _loss(strength: float = 1.0, power: int = 1) -> DensityLoss:
    statistics = (LogitStatistics(CLASSES, min_pixels=8, seed=seed) for seed in (0, 1))
    return DensityLoss(BalancedCriterion(*statistics), torch.nn.Conv2d(3, 1, 1), strength, power)


def _segmenter(head: type = DAFormerHead) -> Segmenter:
    torch.manual_seed(0)
    encoder = SmallEncoder(channels=(8, 8, 8, 8), norm="group")
    more = {"embed": 8, "norm": "group"} if head is DAFormerHead else {}
    return Segmenter(encoder, head(encoder.channels, CLASSES, **more), encoder.mean, encoder.std)


@pytest.mark.parametrize("classes", [1, CLASSES])
def test_cumulative_density_equals_direct_evaluation(classes):
    logits, label = _batch()
    logits, label = logits[:, :classes], torch.where(label < classes, label, IGNORE)
    statistics = LogitStatistics(classes, min_pixels=1)
    for _ in range(3):
        statistics.update(logits, label)
    direct = reference.positive_cdf(logits, label, statistics.mixture)
    torch.testing.assert_close(cumulative_density(logits, label, statistics), direct.float(), atol=1e-3, rtol=0)


def test_cumulative_density_of_a_fitted_class_is_uniform():
    logits, label = _batch()
    statistics = LogitStatistics(CLASSES, min_pixels=1)
    for _ in range(10):
        statistics.update(logits, label)
    density = cumulative_density(logits, label, statistics)[label == 1]
    torch.testing.assert_close(density.sort().values, torch.linspace(0, 1, len(density)), atol=0.06, rtol=0)


def test_exact_regression_costs_nothing_and_a_wrong_one_its_error():
    logits, label = _batch()
    criterion, balanced = _loss(power=2), _loss().balanced
    source = Sample(logits, label, ("a", "b"), (0, 1))
    plain = balanced.source_loss(logits, source)
    right = cumulative_density(logits, label, balanced.source_statistics)
    torch.testing.assert_close(criterion.source_loss(Output(logits, right), source), plain)
    labelled = (label != IGNORE).float().mean()
    criterion = _loss(power=2)
    torch.testing.assert_close(criterion.source_loss(Output(logits, right + 0.5), source), plain + 0.25 * labelled)


def test_target_pixels_use_their_weight_and_the_targets_statistics():
    logits, label = _batch()
    source = Sample(logits, label, ("a", "b"), (0, 1))
    from_source = torch.zeros_like(label, dtype=torch.bool)
    from_source[:, :, :10] = True
    results = []
    for weight in (0.25, 0.75):
        criterion, other = _loss(), _loss().balanced
        mixed = Mixed(logits, label, torch.where(from_source, 1.0, weight), from_source)
        pseudo = PseudoLabels(label, mixed.weight)
        for balanced in (criterion.balanced, other):
            balanced.source_loss(logits, source)
        plain = other.mixed_loss(logits, mixed, pseudo)
        own = cumulative_density(logits, label, other.source_statistics)
        foreign = cumulative_density(logits, label, other.target_statistics)
        right = torch.where(from_source, own, foreign)
        torch.testing.assert_close(criterion.mixed_loss(Output(logits, right), mixed, pseudo), plain)
        off = torch.where(from_source, right, right + 1)
        results.append(criterion.mixed_loss(Output(logits, off), mixed, pseudo) - plain)
    torch.testing.assert_close(results[1] / results[0], torch.tensor(3.0), atol=0.05, rtol=0)


def test_a_class_never_estimated_is_not_regressed():
    logits, label = _batch()
    label[label == 2] = IGNORE
    label[0, 5, 5] = 2
    criterion, balanced = _loss(), _loss().balanced
    source = Sample(logits, label, ("a", "b"), (0, 1))
    plain = balanced.source_loss(logits, source)
    right = cumulative_density(logits, label, balanced.source_statistics)
    right[0, 5, 5] = 100
    torch.testing.assert_close(criterion.source_loss(Output(logits, right), source), plain)


def test_regression_uses_the_features_and_does_not_change_the_logits():
    segmenter = _segmenter().eval()
    regression = DensityRegression(segmenter)
    image = torch.rand(2, 3, 24, 40)
    output = regression(image)
    assert torch.equal(output.logits, segmenter(image))
    assert output.density.shape == (2, 24, 40)
    output.density.sum().backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in segmenter.encoder.parameters())


def test_a_head_without_features_is_an_error_that_names_the_fix():
    with pytest.raises(ValueError, match=r"DeepLabV2Head has no features.*daformer"):
        DensityRegression(_segmenter(DeepLabV2Head))


def test_reweighting_keeps_the_mean_weight_of_source_pixels_at_one():
    frequency = torch.tensor([900, 90, 10, 0])
    criterion = ReweightedLoss(frequency)
    assert criterion.weight[2] > criterion.weight[1] > criterion.weight[0]
    assert criterion.weight[3] == 0
    torch.testing.assert_close((criterion.weight * frequency).sum() / frequency.sum(), torch.tensor(1.0))
    torch.testing.assert_close(criterion.weight[1] / criterion.weight[0], torch.tensor(10.0).sqrt())
    logits, label = _batch()
    source = Sample(logits, label, ("a", "b"), (0, 1))
    even = ReweightedLoss(torch.ones(CLASSES))
    torch.testing.assert_close(even.source_loss(logits, source), cross_entropy(logits, label))


def test_logit_adjustment_is_cross_entropy_of_logits_moved_by_the_shares():
    logits, label = _batch()
    frequency = torch.tensor([900, 90, *[10] * (CLASSES - 3), 0])
    adjusted, source = AdjustedLoss(frequency, 0.5), Sample(logits, label, ("a", "b"), (0, 1))
    average = frequency[:-1].double().log().mean().exp()
    moved = logits + 0.5 * (torch.cat((frequency[:-1], average[None])) / 1000).log().float()[:, None, None]
    torch.testing.assert_close(adjusted.source_loss(logits, source), cross_entropy(moved, label))
    mixed = Mixed(logits, label, torch.rand(label.shape), torch.zeros_like(label, dtype=torch.bool))
    pseudo = PseudoLabels(label, mixed.weight)
    expected = cross_entropy(moved, label, mixed.weight)
    torch.testing.assert_close(adjusted.mixed_loss(logits, mixed, pseudo), expected)
    none = AdjustedLoss(frequency, 0)
    assert torch.equal(none.source_loss(logits, source), cross_entropy(logits, label))


def test_class_weights_by_hand_multiply_those_of_the_frequency():
    frequency, factors = torch.tensor([900, 90, 10, 0]), torch.tensor([1.0, 2.0, 0.0, 5.0])
    by_hand = ReweightedLoss(frequency, 0, factors).weight
    torch.testing.assert_close(by_hand[1] / by_hand[0], torch.tensor(2.0))
    assert by_hand[2] == 0 and by_hand[3] == 0
    torch.testing.assert_close((by_hand * frequency).sum() / frequency.sum(), torch.tensor(1.0))
    both, plain = ReweightedLoss(frequency, 0.5, factors).weight, ReweightedLoss(frequency).weight
    torch.testing.assert_close(both[1] / both[0], 2 * plain[1] / plain[0])
    assert torch.equal(ReweightedLoss(frequency, 0.5, torch.ones(4)).weight, plain)
