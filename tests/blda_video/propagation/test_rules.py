"""Every propagation rule against itself written out pixel by pixel, and what all of them promise."""

import numpy as np
import pytest
import torch

from blda.config.data_schema import Evaluation, Source, Target
from blda.config.schema import Model
from blda_video.build import RULES, rule_of
from blda_video.config import VideoConfig
from blda_video.propagation.agreement_rules import ConsistentConfidence, Oracle, RareClass
from blda_video.propagation.averaging_rules import Trajectory
from blda_video.propagation.warping_rules import ConfidenceThreshold

CLASSES, SIZE = 5, (9, 11)
FREQUENCY = torch.tensor([900, 20, 300, 0, 20])
TRUTH = torch.randint(0, CLASSES, (2, *SIZE), generator=torch.Generator().manual_seed(9))
TRUTH[:, 0] = 255
MADE = {
    **{name: make for name, make in RULES.items() if name != "rare_class"},
    "trajectory arithmetic": lambda: Trajectory("arithmetic"),
    "trajectory without consensus": lambda: Trajectory(consensus=0),
    "trajectory unweighted": lambda: Trajectory("geometric", 0, 0),
    "confidence_threshold": lambda: ConfidenceThreshold(0.6),
    "consistent_confidence": lambda: ConsistentConfidence(0.6),
    "consistent_confidence per class": lambda: ConsistentConfidence(0.4, per_class=True),
    "rare_class": lambda: RareClass(FREQUENCY, share=0.6),
    "oracle": lambda: Oracle(TRUTH),
}
every_rule = pytest.mark.parametrize("name", MADE)


def frame_probabilities(*shape, seed=0):
    return (2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).softmax(-3)


def scene(frames=3, seed=0):
    """Beliefs that often agree, half of them valid."""
    generator = torch.Generator().manual_seed(seed)
    common = 2 * torch.randn(2, 1, CLASSES, *SIZE, generator=generator)
    own = 2 * torch.randn(2, frames + 1, CLASSES, *SIZE, generator=generator)
    every = (common + own).softmax(2)
    valid = torch.rand(2, frames, *SIZE, generator=generator) > 0.5
    return every[:, 0], every[:, 1:], valid, (-2, -1, 1, 3)[:frames]


@every_rule
def test_without_evidence_the_key_stays_bit_for_bit(name):
    key, warped, valid, offset = scene()
    nothing = MADE[name]()(key, warped[:, :0], valid[:, :0], ())
    assert torch.equal(nothing.probabilities, key) and nothing.keep.all() and nothing.keep.shape == key[:, 0].shape
    nowhere = MADE[name]()(key, torch.zeros_like(warped), torch.zeros_like(valid), offset)
    assert torch.equal(nowhere.probabilities, key) and nowhere.keep.all()


@every_rule
def test_a_neighbour_missing_in_one_image_leaves_the_other_alone(name):
    key, warped, valid, offset = scene()
    expected = MADE[name]()(key, warped, valid, offset)
    valid[0] = False
    combined = MADE[name]()(key, warped, valid, offset)
    assert torch.equal(combined.probabilities[0], key[0]) and combined.keep[0].all()
    assert torch.equal(combined.probabilities[1], expected.probabilities[1]) and torch.equal(
        combined.keep[1], expected.keep[1]
    )


@every_rule
def test_a_missing_frame_is_as_if_it_were_not_asked_for(name):
    key, warped, valid, offset = scene()
    valid[:, 1] = False
    combined, fewer = MADE[name]()(key, warped, valid, offset), [0, 2]
    expected = MADE[name]()(key, warped[:, fewer], valid[:, fewer], tuple(offset[k] for k in fewer))
    torch.testing.assert_close(combined.probabilities, expected.probabilities)
    assert torch.equal(combined.keep, expected.keep)


@every_rule
def test_the_order_of_the_context_does_not_matter(name):
    key, warped, valid, offset = scene(4)
    warped[:, 1:3, :, :, :3] = torch.eye(CLASSES)[[1, 3]].view(1, 2, CLASSES, 1, 1)  # equally sure of other classes
    order = [2, 0, 3, 1]
    combined = MADE[name]()(key, warped, valid, offset)
    shuffled = MADE[name]()(key, warped[:, order], valid[:, order], tuple(offset[k] for k in order))
    torch.testing.assert_close(combined.probabilities, shuffled.probabilities)
    assert torch.equal(combined.keep, shuffled.keep)


@every_rule
def test_beliefs_sum_to_one_and_ignore_what_is_invalid(name):
    key, warped, valid, offset = scene()
    combined = MADE[name]()(key, warped, valid, offset)
    torch.testing.assert_close(combined.probabilities.sum(1), torch.ones(2, *SIZE))
    assert combined.probabilities.dtype == key.dtype and combined.keep.dtype == torch.bool
    other = torch.where(valid[:, :, None], warped, frame_probabilities(2, 3, CLASSES, *SIZE, seed=5))
    again = MADE[name]()(key, other, valid, offset)
    assert torch.equal(again.probabilities, combined.probabilities) and torch.equal(again.keep, combined.keep)
    unseen = ~valid.any(1)
    assert unseen.any() and torch.equal(combined.probabilities.movedim(1, -1)[unseen], key.movedim(1, -1)[unseen])


@every_rule
def test_a_rule_does_not_change_what_it_is_given(name):
    given = scene()
    copies = [each.clone() for each in given[:3]]
    MADE[name]()(*given)
    assert all(torch.equal(a, b) for a, b in zip(copies, given, strict=False))


@pytest.mark.parametrize("name", [name for name in MADE if name != "oracle"])
def test_frames_that_say_the_same_keep_the_key_s_label(name):
    key, warped, valid, offset = scene()
    combined = MADE[name]()(key, key[:, None].expand_as(warped), torch.ones_like(valid), offset)
    assert torch.equal(combined.probabilities.argmax(1), key.argmax(1)) and combined.keep.any()


def mean_of(key, seen):
    return np.mean(seen, axis=0) if seen else key


def likeness(one, frames):
    """Its mean likeness to the others."""
    return (sum(np.sqrt(one * other).sum() for other in frames) - 1) / max(len(frames) - 1, 1)


def average(geometric, power, consensus):
    def rule(key, seen, pixel):
        alike = [likeness(each, (key, *seen)) ** consensus if seen else 1 for each in (key, *seen)]
        weights = [max(each) ** power * like for each, like in zip((key, *seen), alike, strict=True)]
        values = np.log(np.maximum((key, *seen), 1e-6)) if geometric else np.stack((key, *seen))
        pooled = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
        return (np.exp(pooled) / np.exp(pooled).sum() if geometric else pooled), True

    return rule


def most_confident(key, seen, pixel):
    return max((key, *seen), key=max), True


def agree(key, seen):
    return bool(seen) and all(np.argmax(each) == np.argmax(key) for each in seen)


def rare(key, seen, pixel):
    rarest_first = [3, 1, 4, 2, 0]  # of classes that occur alike the first counts as rarer
    other = mean_of(key, seen)
    a, b = rarest_first.index(np.argmax(key)), rarest_first.index(np.argmax(other))
    return (other if b < a else key), bool(seen) and (a == b or min(a, b) < 3)


REFERENCE = {
    "none": lambda key, seen, pixel: (key, True),
    "trajectory": average(True, 1, 4),
    "trajectory arithmetic": average(False, 1, 4),
    "trajectory without consensus": average(True, 1, 0),
    "trajectory unweighted": average(True, 0, 0),
    "warp": lambda key, seen, pixel: (mean_of(key, seen), bool(seen)),
    "fill": lambda key, seen, pixel: (mean_of(key, seen), True),
    "max_confidence": most_confident,
    "confidence_threshold": lambda key, seen, pixel: (
        mean_of(key, seen),
        bool(seen) and max(mean_of(key, seen)) >= 0.6,
    ),
    "consistency": lambda key, seen, pixel: (key, agree(key, seen)),
    "consistent_confidence": lambda key, seen, pixel: (key, agree(key, seen) and max(key) >= 0.6),
    "rare_class": rare,
    "oracle": lambda key, seen, pixel: (
        mean_of(key, seen),
        bool(seen) and np.argmax(mean_of(key, seen)) == TRUTH[pixel].item(),
    ),
}


def pixels():
    return np.ndindex(2, *SIZE)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("name", REFERENCE)
def test_a_rule_equals_itself_pixel_by_pixel(name, frames):
    key, warped, valid, offset = scene(frames)
    combined = MADE[name]()(key, warped, valid, offset)
    kept = np.zeros((2, *SIZE), dtype=bool)
    for pixel in pixels():
        image, at = pixel[0], (slice(None), *pixel[1:])
        seen = [warped[image, k][at].double().numpy() for k in range(frames) if valid[image, k][pixel[1:]]]
        probabilities, kept[pixel] = REFERENCE[name](key[image][at].double().numpy(), seen, pixel)
        np.testing.assert_allclose(combined.probabilities[image][at].numpy(), probabilities, atol=1e-5)
    assert np.array_equal(combined.keep.numpy(), kept)
    assert kept.any() and (kept.all() == (name in ("none", "fill", "max_confidence") or "trajectory" in name))


def test_a_class_that_is_surer_on_average_needs_its_average():
    key, warped, valid, offset = scene()
    combined = ConsistentConfidence(0.4, per_class=True)(key, warped, valid, offset)
    agreed: dict[tuple, dict] = {}
    for image, i, j in pixels():
        own = key[image, :, i, j].numpy()
        if agree(own, [warped[image, k, :, i, j].numpy() for k in range(3) if valid[image, k, i, j]]):
            agreed.setdefault((image, np.argmax(own)), {})[image, i, j] = max(own)
    expected = np.zeros((2, *SIZE), dtype=bool)
    for members in agreed.values():
        needed = max(0.4, np.mean(list(members.values())) - 1e-6)
        for pixel, confidence in members.items():
            expected[pixel] = confidence >= needed
    assert np.array_equal(combined.keep.numpy(), expected) and expected.any()
    assert (combined.keep & ~ConsistentConfidence(0.4)(key, warped, valid, offset).keep).sum() == 0


def test_of_equally_sure_frames_the_key_is_first_and_others_share():
    one, two = torch.eye(CLASSES)[1], torch.eye(CLASSES)[2]
    rule, valid = MADE["max_confidence"](), torch.ones(1, 2, 1, 1, dtype=torch.bool)
    warped = torch.stack((one, two))[None, :, :, None, None]
    unsure = torch.full((1, CLASSES, 1, 1), 0.2)
    assert torch.equal(rule(unsure, warped, valid, (-1, 1)).probabilities.flatten(), (one + two) / 2)
    sure = torch.eye(CLASSES)[4].view(1, CLASSES, 1, 1)
    assert torch.equal(rule(sure, warped, valid, (-1, 1)).probabilities, sure)


def test_no_frame_alone_rules_a_class_out():
    certain = torch.eye(2)[0].view(1, 1, 2, 1, 1).repeat(1, 2, 1, 1, 1)
    certain[:, 1] = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    key = torch.tensor([0.1, 0.9]).view(1, 2, 1, 1)
    combined = Trajectory("geometric", 0, 0)(key, certain, torch.ones(1, 2, 1, 1, dtype=torch.bool), (-1, 1))
    assert combined.probabilities.isfinite().all() and combined.probabilities.argmax() == 1


def test_a_belief_that_stands_alone_counts_less_and_one_neighbour_as_ever():
    key, warped, valid, offset = scene(1)
    valid[:] = True
    plain, asked = (Trajectory(consensus=consensus)(key, warped, valid, offset).probabilities for consensus in (0, 4))
    torch.testing.assert_close(plain, asked)
    one, two = torch.tensor([0.6, 0.4]), torch.tensor([0.01, 0.99])
    key, warped = one.view(1, 2, 1, 1), torch.stack((one, two))[None, :, :, None, None]
    seen = torch.ones(1, 2, 1, 1, dtype=torch.bool)
    outvoted, kept = (Trajectory(consensus=consensus)(key, warped, seen, (-1, 1)).probabilities for consensus in (0, 4))
    assert outvoted.argmax() == 1 and kept[0, 0] > outvoted[0, 0]
    # Beliefs that exclude each other are worth the same.
    certain = torch.eye(2).view(1, 2, 2, 1, 1)
    even = Trajectory()(certain[:, 0], certain[:, 1:], seen[:, :1], (1,)).probabilities
    torch.testing.assert_close(even, torch.full_like(even, 0.5))


def built(rule):
    part = {"name": "folder"}
    data = (Source(part), Target(part), Evaluation(part))
    return rule_of(VideoConfig("run", Model({}, {}), *data, rule=rule), lambda: torch.arange(19))


@pytest.mark.parametrize("name", RULES)
def test_a_name_or_a_part_makes_a_rule(name):
    assert type(built(name)) is type(built({"name": name})) is RULES[name]


def test_keywords_reach_the_rule():
    assert built({"name": "consistent_confidence", "threshold": 0.9, "per_class": True}).threshold == 0.9
    assert built({"name": "rare_class", "share": 0.5}).rare == 10  # of 19
    assert built("rare_class").rare == 11 and not built({"name": "trajectory", "mean": "arithmetic"}).geometric


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("oracle", "rule: oracle reads the target's labels"),
        ({"name": "oracle", "truth": 1}, "rule: oracle reads the target's labels"),
        ("consistensy", "rule: unknown name 'consistensy'; did you mean 'consistency'"),
        (
            {"threshold": 0.9},
            r"rule: {'threshold': 0.9} names no part; write {name: WHICH, ...} with one of none, trajec",
        ),
        (None, "rule: .*names no part"),
        ({"name": "consistent_confidence", "treshold": 0.9}, "rule: .* has no 'treshold'; did you mean 'threshold'"),
        ({"name": "warp", "threshold": 0.9}, "rule: warp has no 'threshold'"),
        ({"name": "rare_class", "frequency": [1, 2]}, "rule: rare_class has no 'frequency'"),
        ({"name": "confidence_threshold", "threshold": 1.5}, "threshold is 1.5; a confidence is a number between"),
        ({"name": "confidence_threshold", "threshold": "high"}, "threshold must be a number, not 'high'"),
        ({"name": "rare_class", "share": 2}, "share is 2; a part of the classes"),
        ({"name": "trajectory", "mean": "median"}, "trajectory has no mean 'median'; use geometric or arithmetic"),
        ({"name": "trajectory", "power": -1}, "power is -1; use a number of at least 0"),
        ({"name": "trajectory", "consensus": "no"}, "consensus must be a number, not 'no'"),
    ],
)
def test_a_rule_that_cannot_be_made_says_why(rule, message):
    with pytest.raises(ValueError, match=message):
        built(rule)


@pytest.mark.cuda
@every_rule
def test_the_gpu_agrees(name):
    key, warped, valid, offset = scene()
    rule = Oracle(TRUTH.cuda()) if name == "oracle" else MADE[name]()
    there, here = rule(key.cuda(), warped.cuda(), valid.cuda(), offset), MADE[name]()(key, warped, valid, offset)
    torch.testing.assert_close(there.probabilities.cpu(), here.probabilities)
    assert torch.equal(there.keep.cpu(), here.keep)
