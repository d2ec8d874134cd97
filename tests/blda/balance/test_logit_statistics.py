"""Logit statistics: histograms, updates, restarts, extreme logits, bias and soft counting."""

import numpy as np
import pytest
import torch

from blda.balance import logit_grid
from blda.balance.gaussian_mixture import Mixture
from blda.balance.logit_statistics import LogitStatistics
from blda.data.batches import PseudoLabels
from blda.data.sample import IGNORE


def _batch(classes=4, seed=0, size=(2, 24, 32)):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, size, generator=g)
    labels[:, :2] = IGNORE
    logits = torch.randn(size[0], classes, *size[1:], generator=g)
    own = torch.nn.functional.one_hot(labels.clamp(max=classes - 1), classes).permute(0, 3, 1, 2)
    return logits + 4 * own, labels


def _equal(a: LogitStatistics, b: LogitStatistics) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.buffers(), b.buffers(), strict=True))


@pytest.mark.parametrize("name", ["c5", "c19"])
def test_momentum_equals_golden_values(shared, name):
    golden = {k: torch.as_tensor(v) for k, v in np.load(shared / f"golden/blda_reference_{name}.npz").items()}
    updated, since = golden["mom_seen"] > 0, golden["mom_iterations_since_update"]
    ceiling = float(golden["mom_momentum"]) * min(int(golden["mom_iteration"]) / int(golden["mom_warmup"]), 1)
    # Rows are updated as a whole, so one column describes all.
    past, fed = (ceiling ** since[:, 0]).float()[:, None, None], updated[:, 0][:, None, None]
    old = Mixture(*(golden[f"mom_{f}_old"].clone() for f in Mixture._fields))
    LogitStatistics._average(old, Mixture(*(golden[f"mom_{f}_new"] for f in Mixture._fields)), past, fed)
    for own, field in zip(old, Mixture._fields, strict=True):
        torch.testing.assert_close(own, golden[f"mom_{field}"], atol=1e-5, rtol=0)


def test_histogram_counts_every_labelled_pixel_once_per_channel():
    logits, labels = _batch()
    counts = LogitStatistics(4).histogram(logits, labels)
    per_class = torch.bincount(labels[labels != IGNORE], minlength=4).double()
    assert torch.equal(counts.sum(-1), per_class[:, None].expand(4, 4))


def test_histograms_add_over_images_exactly_and_in_any_order():
    logits, labels = _batch()
    weight = torch.rand(labels.shape)
    statistics = LogitStatistics(4)
    whole = statistics.histogram(logits, labels, weight)
    images = [statistics.histogram(logits[i : i + 1], labels[i : i + 1], weight[i : i + 1]) for i in (1, 0)]
    assert torch.equal(whole, images[0] + images[1])


def test_histogram_of_weight_one_is_the_unweighted_one():
    logits, labels = _batch()
    statistics = LogitStatistics(4)
    ones = torch.ones(labels.shape)
    assert torch.equal(statistics.histogram(logits, labels, ones), statistics.histogram(logits, labels))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_float_types_give_the_histogram_of_their_values(dtype):
    logits, labels = _batch()
    statistics = LogitStatistics(4)
    low = logits.to(dtype)
    assert torch.equal(statistics.histogram(low, labels), statistics.histogram(low.float(), labels))


def test_fitted_mixtures_and_anchors_have_the_means_of_their_logits():
    logits, labels = _batch(size=(2, 64, 64))
    statistics = LogitStatistics(4, warmup=10)
    for _ in range(8):
        statistics.update(logits, labels)
    mean = (statistics.weights * statistics.means).sum(-1)
    expected = torch.stack([logits.permute(1, 0, 2, 3)[:, labels == c].mean(1) for c in range(4)])
    torch.testing.assert_close(mean, expected, atol=0.02, rtol=0)
    positive = torch.cat([logits[:, c][labels == c] for c in range(4)])
    anchor = (statistics.anchor_weights[0] * statistics.anchor_means[0]).sum()
    torch.testing.assert_close(anchor, positive.mean(), atol=0.02, rtol=0)


def test_a_class_with_few_pixels_keeps_its_row_and_counts_its_absence():
    logits, labels = _batch()
    statistics = LogitStatistics(4, min_pixels=100)
    before = statistics.means[2].clone()
    labels[labels == 2] = IGNORE
    labels[0, 5, :5] = 2
    statistics.update(logits, labels)
    statistics.update(logits, labels)
    assert torch.equal(statistics.means[2], before)
    assert statistics.estimated.tolist() == [True, True, False, True, True, True]
    assert statistics.absent.tolist() == [1, 1, 3, 1, 1, 1]


def test_restored_statistics_continue_identically():
    first, second = LogitStatistics(4, seed=1), LogitStatistics(4, seed=2)
    first.update(*_batch(seed=1))
    second.load_state_dict(first.state_dict())
    for statistics in (first, second):
        statistics.update(*_batch(seed=2))
    assert _equal(first, second)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda z: z * float("inf"),
        lambda z: z.mul_(0),
        lambda z: z * 1e4,
        lambda z: torch.full_like(z, float("nan")),
        lambda z: z.index_fill(1, torch.tensor([1]), float("nan")),
    ],
    ids=["infinite", "constant", "huge", "nan", "one nan channel"],
)
def test_extreme_logits_leave_all_buffers_finite(spoil):
    logits, labels = _batch()
    statistics = LogitStatistics(4, warmup=2)
    for _ in range(3):
        statistics.update(spoil(logits.clone()), labels)
    assert all(buffer.float().isfinite().all() for buffer in statistics.buffers())


def test_all_pixels_ignored_changes_no_mixture():
    statistics = LogitStatistics(3)
    before = statistics.means.clone()
    statistics.update(torch.randn(1, 3, 8, 8), torch.full((1, 8, 8), IGNORE))
    assert torch.equal(statistics.means, before)
    assert not statistics.estimated.any()


def test_wrong_channel_count_is_an_error():
    with pytest.raises(ValueError, match=r"4 channels.*3 classes"):
        LogitStatistics(3).histogram(*_batch())


def test_bias_is_zero_for_equal_classes_and_positive_for_a_favoured_one():
    logits, labels = _batch(classes=3, size=(4, 64, 64))
    fair, unfair = LogitStatistics(3), LogitStatistics(3)
    for _ in range(5):
        fair.update(logits, labels)
        unfair.update(logits + torch.tensor([2.5, 0.0, 0.0])[:, None, None], labels)
    assert fair.bias().abs().max() < 0.03
    bias = unfair.bias()
    assert bias[0] > 0.05
    assert bias[1:].max() < 0
    torch.testing.assert_close(bias.sum(), torch.tensor(0.0), atol=1e-4, rtol=0)
    prediction = (logits + torch.tensor([2.5, 0.0, 0.0])[:, None, None]).argmax(1)
    true = torch.stack(
        [torch.bincount(prediction[labels == c], minlength=3) / (labels == c).sum() for c in range(3)]
    ).mean(0)
    torch.testing.assert_close(bias, true - 1 / 3, atol=0.03, rtol=0)


def test_grid_position_inverts_its_nodes():
    places = logit_grid.position(logit_grid.nodes())
    torch.testing.assert_close(places, torch.arange(logit_grid.BINS).float(), atol=2e-2, rtol=0)


def test_soft_counting_finds_the_cells_of_true_labels_unlike_hard_counting():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 2, (4, 64, 64), generator=generator)
    score = torch.randn(truth.shape, generator=generator) + 2.0 * truth - 1.0  # the log-odds of class 1 are 2 * score
    logits = torch.stack((-score, score), 1)
    pseudo = PseudoLabels(logits.argmax(1), torch.ones_like(score), probabilities=logits.softmax(1))
    gaps = []
    for soft_counting in (False, True):
        statistics = LogitStatistics(2, soft_counting=soft_counting)
        counts = [statistics.histogram(logits, labels) for labels in (truth, statistics._counted(pseudo.label, pseudo))]
        true, estimate = (count.cumsum(-1) / count.sum(-1, keepdim=True) for count in counts)
        gaps.append(float((true - estimate).abs().amax(-1).mean()))
    assert gaps[1] < 0.03 < 0.1 < gaps[0]


def test_soft_counting_needs_probabilities():
    logits, label = torch.randn(1, 3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.int64)
    keep_probabilities = PseudoLabels(label, torch.ones(1, 8, 8), probabilities=logits.softmax(1))
    alone = PseudoLabels(label, torch.ones(1, 8, 8))
    LogitStatistics(3).update(logits, label, alone)
    statistics = LogitStatistics(3, soft_counting=True)
    statistics.update(logits, label)  # source labels, which are true
    statistics.update(logits, label, keep_probabilities)
    with pytest.raises(ValueError, match="make them with keep_probabilities"):
        statistics.update(logits, label, alone)
