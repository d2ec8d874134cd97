"""Bias: measured on labels, estimated without them, and the rank correlation of the two."""

import math

import pytest
import torch

from blda.balance import bias_agreement
from blda.balance.logit_statistics import LogitStatistics
from blda.data import measured_bias
from blda.data.sample import Sample
from blda.engine.metrics import MeanIoU


def _statistics(classes=4, offset=(0.0, 1.0, 2.0, -1.0), pixels=4000):
    """Return statistics of logits that favour classes by `offset`, and the confusion matrix of the same pixels."""
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, classes, (pixels,), generator=g)
    own = torch.nn.functional.one_hot(labels, classes)
    logits = torch.randn(pixels, classes, generator=g) + 2.5 * own + torch.tensor(offset)
    statistics = LogitStatistics(classes, warmup=5)
    for _ in range(8):
        statistics.update(logits.T[None, :, None], labels[None, None])
    pair = labels * classes + logits.argmax(1)
    return statistics, torch.bincount(pair, minlength=classes**2).view(classes, classes)


def test_measured_bias_is_the_formula():
    confusion = torch.tensor([[8, 2, 0], [5, 5, 0], [0, 1, 1]])
    expected = torch.tensor([(0.8 + 0.5) / 3, (0.2 + 0.5 + 0.5) / 3, 0.5 / 3]).double() - 1 / 3
    torch.testing.assert_close(measured_bias.measured(confusion), expected)
    torch.testing.assert_close(measured_bias.measured(7 * confusion), expected)


def test_a_class_without_pixels_has_no_bias_and_is_not_averaged():
    bias = measured_bias.measured(torch.tensor([[8.0, 2.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]]))
    assert bias.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(bias[0], torch.tensor(0.8 / 2 - 1 / 3).double())
    assert measured_bias.measured(torch.zeros(2, 2)).isnan().all()


def test_scores_name_the_bias_and_are_read_back():
    names = ("road", "sky", "car")
    scores = measured_bias.scores(torch.tensor([[3, 1, 0], [0, 0, 0], [0, 2, 2]]), names)
    assert list(scores) == ["bias/road", "bias/sky", "bias/car"]
    assert math.isnan(scores["bias/sky"])
    logged = {**scores, "bias/sky": None, "mIoU": 3.0}
    again = measured_bias.of_scores(logged, names)
    assert again.isnan().tolist() == [False, True, False]
    assert again[0] == scores["bias/road"]


def test_mean_iou_reports_the_bias_of_every_class_of_the_run():
    metric = MeanIoU(("a", "b"), ())
    logits = torch.tensor([[0.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]]).view(1, 2, 1, 4)
    label = torch.tensor([0, 0, 1, 255]).view(1, 1, 4)
    metric.update(Sample(torch.zeros(1, 3, 1, 4), label, ("x",), (0,)), logits, None)
    assert metric.compute() == pytest.approx({"bias/a": (0.5 + 1) / 2 - 0.5, "bias/b": 0.5 / 2 - 0.5})


def test_spearman_equals_a_hand_computed_case_with_ties():
    # Ranks 1 2 3 4 5 and 1 2 3.5 5 3.5: covariance 8, spreads 10 and 9.5.
    first, second = torch.tensor([1.0, 2, 3, 4, 5]), torch.tensor([5.0, 6, 7, 8, 7])
    assert bias_agreement.spearman(first, second) == pytest.approx(8 / math.sqrt(10 * 9.5))


def test_spearman_equals_scipy():
    stats = pytest.importorskip("scipy.stats")
    g = torch.Generator().manual_seed(0)
    for count in (3, 7, 40):
        first, second = torch.randint(0, 6, (2, count), generator=g).double()
        assert bias_agreement.spearman(first, second) == pytest.approx(stats.spearmanr(first, second).statistic)


def test_spearman_depends_on_the_order_alone():
    first, second = torch.randn(2, 12, generator=torch.Generator().manual_seed(1))
    plain = bias_agreement.spearman(first, second)
    assert -1 < plain < 1
    assert bias_agreement.spearman(first.exp(), second**3) == pytest.approx(plain)
    assert bias_agreement.spearman(second, first) == pytest.approx(plain)
    assert bias_agreement.spearman(first, -second) == pytest.approx(-plain)
    assert bias_agreement.spearman(first, first.exp()) == pytest.approx(1)
    assert math.isnan(bias_agreement.spearman(first, torch.ones(12)))


def test_rank_correlation_is_over_classes_known_in_both():
    estimate, truth = torch.tensor([0.1, 0.2, 0.3, 9.0, -9.0]), torch.tensor([1.0, 2.0, 3.0, 0.0, torch.nan])
    known = torch.tensor([True, True, True, False, True])
    assert bias_agreement.rank_correlation(estimate, truth, known) == pytest.approx(1)
    assert math.isnan(bias_agreement.rank_correlation(estimate, truth, torch.tensor([True, True, False, False, True])))


def test_estimated_bias_ranks_classes_as_the_measured_bias():
    statistics, confusion = _statistics()
    names = ("a", "b", "c", "d")
    scores = measured_bias.scores(confusion, names)
    torch.testing.assert_close(statistics.bias().double(), measured_bias.of_scores(scores, names), atol=0.01, rtol=0)
    result = bias_agreement.agreement(statistics, scores, names)
    assert result == {"bias_rank_correlation": pytest.approx(1), "bias_rank_correlation/all": pytest.approx(1)}


def test_a_class_without_pseudo_labels_counts_in_the_second_number_only():
    statistics, confusion = _statistics()
    statistics.estimated[0] = False
    names = ("a", "b", "c", "d")
    scores = measured_bias.scores(confusion, names) | {"bias/a": 5.0}
    result = bias_agreement.agreement(statistics, scores, names)
    assert result["bias_rank_correlation"] == pytest.approx(1)
    assert result["bias_rank_correlation/all"] < 0.9


def test_unestimated_statistics_have_no_rank_correlation():
    result = bias_agreement.agreement(LogitStatistics(3), {"bias/a": 0.1, "bias/b": 0.0}, ("a", "b", "c"))
    assert len(result) == 2
    assert all(math.isnan(value) for value in result.values())


@pytest.mark.parametrize("scale", [0.05, 1.0, 30.0])
def test_integrated_bias_equals_sampled_bias(scale):
    """It holds for any scale of logits, within 4 standard errors of the samples."""
    g, classes, samples = torch.Generator().manual_seed(3), 5, 200_000
    statistics = LogitStatistics(classes, components=3)
    statistics.means.copy_(scale * 2 * torch.randn(classes, classes, 3, generator=g))
    statistics.variances.copy_((scale * (0.2 + torch.rand(classes, classes, 3, generator=g))).square())
    statistics.weights.copy_(torch.rand(classes, classes, 3, generator=g).softmax(-1))
    statistics.estimated[:classes] = True
    shares = torch.zeros(classes)
    for row in range(classes):
        component = torch.multinomial(statistics.weights[row], samples, replacement=True, generator=g)
        spread = statistics.variances[row].gather(1, component).sqrt()
        values = statistics.means[row].gather(1, component) + spread * torch.randn(classes, samples, generator=g)
        shares += torch.bincount(values.argmax(0), minlength=classes) / samples / classes
    error = 4 * math.sqrt(0.25 / samples / classes)
    torch.testing.assert_close(statistics.bias(), shares - 1 / classes, atol=error, rtol=0)
