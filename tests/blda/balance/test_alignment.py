"""Alignment to the anchors: recorded values, direct evaluation, gradients and extreme batches."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import reference
from blda.balance.alignment import alignment, balanced, correction
from blda.balance.balanced_criterion import BalancedCriterion
from blda.balance.cross_entropy import cross_entropy
from blda.balance.gaussian_mixture import Mixture
from blda.balance.logit_statistics import LogitStatistics
from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import IGNORE, Sample


def _statistics(classes: int, mixture: Mixture, anchors: Mixture) -> LogitStatistics:
    statistics = LogitStatistics(classes, mixture.weights.shape[-1])
    for field in Mixture._fields:
        getattr(statistics, field).copy_(getattr(mixture, field))
        getattr(statistics, f"anchor_{field}").copy_(getattr(anchors, field))
    statistics.estimated.fill_(True)
    return statistics


def _random(classes: int, seed: int = 0) -> tuple[LogitStatistics, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)

    def mixture(*shape: int) -> Mixture:
        weights = torch.rand(*shape, 5, generator=g) + 0.1
        means, variances = 2 * torch.randn(*shape, 5, generator=g), 0.2 + torch.rand(*shape, 5, generator=g)
        return Mixture(weights / weights.sum(-1, keepdim=True), means, variances)

    logits = 4 * torch.randn(2, classes, 16, 20, generator=g)
    labels = torch.randint(0, classes, (2, 16, 20), generator=g)
    labels[0, :3] = IGNORE
    return _statistics(classes, mixture(classes, classes), mixture(2)), logits, labels


@pytest.mark.parametrize("domain", ["source", "target"])
@pytest.mark.parametrize("name", ["c5", "c19"])
def test_golden_correction_and_loss(shared, name, domain):
    golden = {k: torch.as_tensor(v) for k, v in np.load(shared / f"golden/blda_reference_{name}.npz").items()}
    mixture = Mixture(*(golden[f"{domain}_{f}"] for f in Mixture._fields))
    anchors = Mixture(*(golden[f"anchor_{f}"] for f in Mixture._fields))
    logits, labels = golden["logits"], golden["labels"].long()
    expected = golden[f"{domain}_correction"]

    direct = reference.correction(logits, labels, mixture, anchors)
    torch.testing.assert_close(direct.float(), expected, atol=1e-4, rtol=0)

    statistics = _statistics(logits.shape[1], mixture, anchors)
    delta = correction(logits, labels, [alignment(statistics, statistics)])
    error = (delta - expected).abs().flatten()
    assert error.quantile(0.999) < 0.02
    loss = cross_entropy(balanced(logits, delta, float(golden["tau"])), labels)
    assert abs(loss.item() - float(golden[f"{domain}_loss"])) < 1e-4


@pytest.mark.parametrize("classes", [1, 2, 7, 30])
def test_lookup_equals_direct_evaluation_for_any_class_count(classes):
    statistics, logits, labels = _random(classes)
    delta = correction(logits, labels, [alignment(statistics, statistics)])
    direct = reference.correction(logits, labels, statistics.mixture, statistics.anchors)
    error = (delta - direct).abs()
    assert error.flatten().quantile(0.99) < 0.02
    # The quantile of an anchor jumps between two nodes where it has little mass; a wrong cell has a larger error.
    assert error.max() < 0.4


def test_unestimated_rows_and_ignored_pixels_are_not_corrected():
    statistics, logits, labels = _random(4)
    statistics.estimated[2] = False
    delta = correction(logits, labels, [alignment(statistics, statistics)]).permute(0, 2, 3, 1)
    unknown = (labels == IGNORE) | (labels == 2)
    assert (delta[unknown] == 0).all()
    assert (delta[~unknown] != 0).float().mean() > 0.99
    no_anchors = LogitStatistics(4)
    assert not correction(logits, labels, [alignment(statistics, no_anchors)]).any()


def test_logits_distributed_like_the_anchors_are_not_moved():
    g = torch.Generator().manual_seed(0)
    positive, negative = 3 + torch.randn(4, generator=g), -1 + torch.randn(4, generator=g)
    mean = torch.where(torch.eye(6, dtype=torch.bool)[..., None], positive, negative)
    mixture = Mixture(torch.full((6, 6, 4), 0.25), mean, torch.ones(6, 6, 4))
    anchors = Mixture(torch.full((2, 4), 0.25), torch.stack((positive, negative)), torch.ones(2, 4))
    statistics = _statistics(6, mixture, anchors)
    labels = torch.randint(0, 6, (1, 16, 16), generator=g)
    own = F.one_hot(labels, 6).permute(0, 3, 1, 2).bool()
    logits = torch.where(own, positive.mean(), negative.mean()) + 0.5 * torch.randn(1, 6, 16, 16, generator=g)
    assert correction(logits, labels, [alignment(statistics, statistics)]).abs().max() < 0.01


def test_an_under_predicted_class_is_pushed_to_win_by_more():
    """The positive logits of class 1 lie below the anchor, so alignment raises them and the balanced loss is larger."""
    means = torch.tensor([[[4.0], [-1.0]], [[-1.0], [1.0]]])
    mixture = Mixture(torch.ones(2, 2, 1), means, torch.ones(2, 2, 1))
    anchors = Mixture(torch.ones(2, 1), torch.tensor([[2.5], [-1.0]]), torch.ones(2, 1))
    statistics = _statistics(2, mixture, anchors)
    logits = torch.tensor([1.0, 1.0])[None, :, None, None]
    labels = torch.ones(1, 1, 1, dtype=torch.int64)
    delta = correction(logits, labels, [alignment(statistics, statistics)])
    assert delta[0, 1] > 1
    assert cross_entropy(balanced(logits, delta, 0.1), labels) > cross_entropy(logits, labels)


def test_no_gradient_flows_through_the_correction():
    statistics, logits, labels = _random(3)
    logits.requires_grad_()
    delta = correction(logits, labels, [alignment(statistics, statistics)])
    assert not delta.requires_grad
    cross_entropy(balanced(logits, delta, 0.1), labels).backward()
    shifted = (logits.detach() - 0.1 * delta).requires_grad_()
    cross_entropy(shifted, labels).backward()
    torch.testing.assert_close(logits.grad, shifted.grad)


def test_loss_counts_ignored_pixels_in_its_denominator():
    logits, labels = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 4, 4))
    half = labels.clone()
    half[:, :2] = IGNORE
    weight = torch.zeros(1, 4, 4)
    weight[:, 2:] = 1
    torch.testing.assert_close(cross_entropy(logits, half), cross_entropy(logits, labels, weight))


@pytest.mark.parametrize("value", [1e4, -1e4, float("inf")])
def test_corrections_of_extreme_logits_are_not_nan(value):
    statistics, logits, labels = _random(3)
    delta = correction(torch.full_like(logits, value), labels, [alignment(statistics, statistics)])
    assert not delta.isnan().any()


@pytest.mark.parametrize("classes", [4, 150])
def test_each_pixel_is_corrected_by_its_own_domain(classes):
    first, logits, labels = _random(classes)
    second, *_ = _random(classes, seed=1)
    one, other = alignment(first, first), alignment(second, first)
    is_other = torch.rand(labels.shape) < 0.5
    joined = correction(logits, labels, [one, other], is_other.long())
    apart = torch.where(is_other[:, None], correction(logits, labels, [other]), correction(logits, labels, [one]))
    torch.testing.assert_close(joined, apart)


def _spoilt(case: str, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(2, classes, 8, 8, generator=g), torch.randint(classes, (2, 8, 8), generator=g)
    if case == "class without pixels":
        labels[labels == classes - 1] = IGNORE
    if case in ("one pixel", "all ignored"):
        labels.fill_(IGNORE)
    if case == "one pixel":
        labels[0, 3, 3] = 0
    scale = {"constant": 0.0, "huge": 1e4, "infinite": float("inf"), "minus infinite": -float("inf")}.get(case, 1.0)
    return (torch.ones_like(logits) if scale == 0 else logits.sign() * scale if scale > 1 else logits * scale), labels


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize(
    "case", ["class without pixels", "one pixel", "all ignored", "constant", "huge", "infinite", "minus infinite"]
)
@pytest.mark.parametrize("min_pixels", [1, 100])
def test_statistics_stay_finite_for_extreme_batches(case, classes, min_pixels):
    logits, labels = _spoilt(case, classes)
    criterion = BalancedCriterion(*(LogitStatistics(classes, min_pixels=min_pixels, warmup=2) for _ in range(2)))
    source, weight = Sample(logits, labels, ("a", "b"), (0, 1)), torch.full(labels.shape, 0.5)
    from_source = torch.arange(8).expand(labels.shape) < 4
    losses = []
    for _ in range(3):
        losses.append(criterion.source_loss(logits, source))
        losses.append(
            criterion.mixed_loss(logits, Mixed(logits, labels, weight, from_source), PseudoLabels(labels, weight))
        )
    for statistics in criterion.state().values():
        assert all(buffer.float().isfinite().all() for buffer in statistics.buffers())
        assert statistics.bias().isfinite().all()
    if "infinite" not in case:
        assert torch.stack(losses).isfinite().all()
