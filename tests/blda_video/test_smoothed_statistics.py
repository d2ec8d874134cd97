import dataclasses
import math

import pytest
import torch

from blda.balance.logit_statistics import LogitStatistics
from blda.data.batches import PseudoLabels
from blda.data.sample import IGNORE
from blda_video.propagation.propagated_labels import ClipLabels
from blda_video.smoothed_statistics import SmoothedStatistics

CLASSES = 4


def observation(offset=(-1, 2), batch=2, height=16, width=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, CLASSES, height, width, generator=generator)
    labels = torch.randint(0, CLASSES, (batch, height, width), generator=generator)
    labels[:, :2] = IGNORE
    shape = batch, len(offset), CLASSES, height, width
    context = 3 * torch.randn(shape, generator=generator) + 1
    valid = (torch.rand(batch, len(offset), height, width, generator=generator) > 0.4).float()
    weight = torch.rand(batch, height, width, generator=generator)
    return logits, labels, ClipLabels(labels, weight, context, valid, offset)


def state(statistics):
    return {name: value.clone() for name, value in statistics.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one) and one.keys() == other.keys()


def gather(logits, labels, pseudo, scale=2.0):
    return SmoothedStatistics(CLASSES, scale=scale)._gather(logits, labels, pseudo)


def test_without_context_equals_the_image_statistics_bit_for_bit():
    logits, labels, pseudo = observation()
    empty = ClipLabels(labels, pseudo.weight, pseudo.context_change[:, :0], pseudo.context_weight[:, :0], ())
    blind = ClipLabels(labels, pseudo.weight, pseudo.context_change, torch.zeros_like(pseudo.context_weight), (-1, 2))
    for histogram in (None, PseudoLabels(labels, pseudo.weight), empty, blind):
        image, video = LogitStatistics(CLASSES, seed=3), SmoothedStatistics(CLASSES, seed=3)
        for statistics in (image, video):
            statistics.update(logits, labels, histogram)
        assert same(state(image), state(video))


def test_a_point_counts_once_however_often_it_is_seen():
    logits, labels, pseudo = observation((-3, -1, 1, 2))
    counts = gather(logits, labels, pseudo)
    points = torch.stack([(labels == c).sum() for c in range(CLASSES)]).double()
    torch.testing.assert_close(counts.sum(-1), points[:, None].expand(-1, CLASSES), rtol=1e-4, atol=0)


def test_evidence_is_weighted_by_distance_and_validity():
    logits, labels, pseudo = observation((-1, 2), batch=1, height=5, width=6)
    image = LogitStatistics(CLASSES)
    expected = torch.zeros_like(image.histogram(logits, labels))
    for i in range(2, 5):
        for j in range(6):
            weights = [1.0] + [
                float(pseudo.context_weight[0, k, i, j]) * math.exp(-abs(step) / 1.5) for k, step in enumerate((-1, 2))
            ]
            seen = [logits[0], *(logits[0] + change for change in pseudo.context_change[0])]
            for weight, frame in zip(weights, seen, strict=True):
                point = frame[:, i, j].view(1, CLASSES, 1, 1)
                expected += image.histogram(point, labels[:, i : i + 1, j : j + 1]) * weight / sum(weights)
    torch.testing.assert_close(gather(logits, labels, pseudo, scale=1.5), expected, atol=1e-3, rtol=0)


def test_evidence_adds_up_over_the_batch_and_ignores_the_order_of_frames():
    logits, labels, pseudo = observation()
    whole = gather(logits, labels, pseudo)
    parts = [
        gather(
            logits[b : b + 1],
            labels[b : b + 1],
            ClipLabels(
                labels[b : b + 1],
                pseudo.weight[b : b + 1],
                pseudo.context_change[b : b + 1],
                pseudo.context_weight[b : b + 1],
                pseudo.offset,
            ),
        )
        for b in range(2)
    ]
    # Weights are rounded to 1 / 2^16 of a pixel, which the last bit of a quotient may decide.
    torch.testing.assert_close(parts[0] + parts[1], whole, atol=1e-3, rtol=0)
    turned = ClipLabels(
        labels, pseudo.weight, pseudo.context_change.flip(1), pseudo.context_weight.flip(1), pseudo.offset[::-1]
    )
    torch.testing.assert_close(gather(logits, labels, turned), whole, atol=1e-3, rtol=0)


def test_frames_that_agree_change_nothing_but_rounding():
    logits, labels, pseudo = observation()
    agree = ClipLabels(
        labels, pseudo.weight, torch.zeros_like(pseudo.context_change), pseudo.context_weight, pseudo.offset
    )
    torch.testing.assert_close(gather(logits, labels, agree), gather(logits, labels, None), atol=1e-2, rtol=0)


def test_what_is_pasted_over_is_not_observed():
    """`BalancedCriterion` gives pixels of the source no label, so the clean context need not know what is pasted."""
    logits, labels, pseudo = observation()
    pasted = labels == IGNORE
    other = torch.where(pasted[:, None, None], -7.0, pseudo.context_change)
    changed = dataclasses.replace(pseudo, context_change=other)
    assert pasted.any() and torch.equal(gather(logits, labels, pseudo), gather(logits, labels, changed))


def test_observations_without_a_number_leave_the_point_to_the_others():
    logits, labels, pseudo = observation()
    broken = pseudo.context_change.clone()
    broken[:, 0] = torch.nan
    counts = gather(logits, labels, ClipLabels(labels, pseudo.weight, broken, pseudo.context_weight, pseudo.offset))
    rest = ClipLabels(labels, pseudo.weight, broken[:, 1:], pseudo.context_weight[:, 1:], pseudo.offset[1:])
    torch.testing.assert_close(counts, gather(logits, labels, rest), atol=1e-3, rtol=0)


def test_state_is_interchangeable_with_image_statistics():
    logits, labels, pseudo = observation()
    video = SmoothedStatistics(CLASSES)
    video.update(logits, labels, pseudo)
    image = LogitStatistics(CLASSES)
    image.load_state_dict(video.state_dict(), strict=True)
    assert same(state(image), state(video))


def test_scale_must_be_positive():
    with pytest.raises(ValueError, match="scale is 0"):
        SmoothedStatistics(CLASSES, scale=0)


def test_soft_counting_gives_a_point_one_class_in_all_frames():
    logits, labels, pseudo = observation()
    probabilities = torch.zeros_like(logits)
    probabilities[:, 1], probabilities[:, 2] = 0.75, 0.25
    clip = dataclasses.replace(pseudo, probabilities=probabilities)
    by_label, soft_counting = SmoothedStatistics(CLASSES), SmoothedStatistics(CLASSES, soft_counting=True)
    drawn = soft_counting._counted(labels, clip)
    assert torch.equal(drawn == IGNORE, labels == IGNORE)
    share = (drawn == 1).sum() / (drawn != IGNORE).sum()
    assert set(drawn.unique().tolist()) == {1, 2, IGNORE} and abs(float(share) - 0.75) < 0.02
    for statistics, own in ((by_label, drawn), (soft_counting, labels)):
        statistics.update(logits, own, clip)
    assert same(state(by_label), state(soft_counting))
