"""The benchmarks of rules and of validity: what they count is right."""

from types import SimpleNamespace

import pytest
import torch

import flow_validity
import rule_quality
from blda.data.protocols import protocol_of
from blda_video.build import RULES
from blda_video.street_world.simulator.world import World

CLASSES = ("road", "car", "sky", "tree")
PARTS = SimpleNamespace(class_names=CLASSES, protocols=(protocol_of(CLASSES),))


def clips(count=2, frames=2):
    for seed in range(count):
        g = torch.Generator().manual_seed(seed)
        truth = torch.randint(0, len(CLASSES), (1, 12, 16), generator=g)
        hot = 2 * torch.nn.functional.one_hot(truth, len(CLASSES)).movedim(-1, 1)[:, None]
        every = (hot + 1.5 * torch.randn(1, frames + 1, len(CLASSES), 12, 16, generator=g)).softmax(2)
        valid = torch.rand(1, frames, 12, 16, generator=g) > 0.4
        truth[:, :2] = 255
        yield rule_quality.FrameProbabilities(every[:, 0], every[:, 1:], valid, (-1, 1)[:frames], truth)


@pytest.fixture(scope="module")
def found():
    rules = {name: make() for name, make in RULES.items() if name != "rare_class"}
    return rule_quality.measure(PARTS, clips(), {**rules, "oracle": None})["rules"]


def test_the_key_alone_gains_nothing_and_covers_everything(found):
    assert found["none"]["gain"] == 0 and found["none"]["coverage"] == 100
    keys = torch.cat([clip.key.argmax(1).flatten() for clip in clips()])
    truth = torch.cat([clip.truth.flatten() for clip in clips()])
    known = truth != 255
    iou = [((keys == c) & (truth == c)).sum() / (((keys == c) | (truth == c)) & known).sum() for c in range(4)]
    assert found["none"]["mIoU"] == pytest.approx(100 * float(torch.stack(iou).mean()), abs=0.01)
    assert found["none"]["iou/sky"] == pytest.approx(100 * float(iou[2]), abs=0.01)


def test_the_oracle_is_right_where_it_says_anything(found):
    known = [(clip.truth != 255) & clip.valid.any(1) for clip in clips()]
    assert found["oracle"]["mIoU"] == 100 and 0 < found["oracle"]["coverage"] < found["warp"]["coverage"]
    share = 100 * sum(int(each.sum()) for each in known) / (2 * 10 * 16)
    assert found["warp"]["coverage"] == pytest.approx(share, abs=0.01)


def test_no_choice_among_frames_beats_its_bound(found):
    for name in ("none", "fill", "max_confidence"):
        assert found[name]["mIoU"] < found[rule_quality.BOUND]["mIoU"]
    assert found["trajectory"]["gain"] > 5 and found["consistency"]["gain"] == 0


def test_rounding_and_absent_classes_make_valid_numbers():
    clip = next(clips())
    only_road = rule_quality.FrameProbabilities(clip.key, clip.warped, clip.valid, clip.offset, clip.truth.clamp(max=0))
    numbers = rule_quality.measure(PARTS, iter([only_road]), {"none": RULES["none"]()})["rules"]["none"]
    assert numbers["coverage/sky"] is None and numbers["iou/sky"] == 0 and numbers["coverage/road"] == 100


@pytest.fixture(scope="module")
def drive():
    def still(image, neighbour):
        return torch.zeros_like(image[:, :2])

    return flow_validity.Drive(World("target", 3, (64, 128), 6), still)


@pytest.mark.parametrize(("gap", "recall"), [(1, 0), (4, 20)])
def test_exact_flow_is_valid_where_the_world_says_that_a_point_is_seen(drive, gap, recall):
    numbers = flow_validity.measure([drive], gap, "exact")
    assert numbers["valid_precision"] > 90 and numbers["valid_recall"] > 95 and numbers["error"] < 1e-4
    # What moves by less than the tolerance of 0.7 px hides things unnoticed.
    assert numbers["occluded_precision"] > 85 and numbers["occluded_recall"] >= recall


def test_chained_steps_of_a_still_world_stay_still(drive):
    assert torch.equal(drive.chained(0, 3), torch.zeros(1, 2, 64, 128))
    assert torch.equal(drive.chained(4, -3), drive.direct(4, -1))
