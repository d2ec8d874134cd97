import pytest
import torch

from blda.data.sample import Sample
from blda.selftraining.pseudo_labels import TeacherLabels
from blda_video.build import RULES as NAMED
from blda_video.clips.clip import Clip
from blda_video.propagation.agreement_rules import RareClass
from blda_video.propagation.averaging_rules import KeyAlone, Trajectory
from blda_video.propagation.propagated_labels import ClipLabels, PropagatedLabels
from blda_video.propagation.warping_rules import Warp

CLASSES = 5
RULES = [RareClass(torch.arange(CLASSES)), *(make() for name, make in NAMED.items() if name != "rare_class")]


class BatchTeacher(torch.nn.Module):
    """A network whose BatchNorm uses batch statistics: mixing frames into one batch would change its output."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.Conv2d(8, CLASSES, 1)
        self.net = torch.nn.Sequential(*layers).requires_grad_(False)

    def forward(self, image):
        return 4 * self.net(image)


def clip(offset=(-1, 1), batch=2, height=24, width=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count = len(offset)
    return Clip(
        image=torch.rand(batch, 3, height, width, generator=generator),
        label=None,
        name=tuple("ab"[:batch]),
        draw=torch.arange(batch),
        context=torch.rand(batch, count, 3, height, width, generator=generator),
        flow=2 * torch.randn(batch, count, 2, height, width, generator=generator),
        valid=torch.rand(batch, count, height, width, generator=generator) > 0.3,
        offset=offset,
    )


def changed(old, **values):
    return Clip(**{**old.__dict__, **values})


def frame_probabilities(*shape, seed=0):
    return (3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).softmax(-3)


@pytest.mark.parametrize("rule", RULES)
def test_without_context_equals_the_image_rule_bit_for_bit(rule):
    target = clip(offset=())
    image = Sample(target.image, None, target.name, target.draw)
    expected = TeacherLabels(0.6, 2, 3)(BatchTeacher(), image)
    labels = PropagatedLabels(rule, 0.6, 2, 3)(BatchTeacher(), target)
    assert torch.equal(labels.label, expected.label) and torch.equal(labels.weight, expected.weight)
    assert labels.weight.any() and labels.context_change.shape == (2, 0, CLASSES, 24, 32)


@pytest.mark.parametrize("rule", RULES)
def test_without_valid_flow_equals_the_image_rule_bit_for_bit(rule):
    target = clip()
    target = changed(target, valid=torch.zeros_like(target.valid), flow=torch.full_like(target.flow, torch.nan))
    expected = TeacherLabels(0.6)(BatchTeacher(), target)
    labels = PropagatedLabels(rule, 0.6)(BatchTeacher(), target)
    assert torch.equal(labels.label, expected.label) and torch.equal(labels.weight, expected.weight)
    assert labels.context_change.isfinite().all() and not labels.context_weight.any()


@pytest.mark.parametrize("rule", RULES)
def test_a_standing_scene_keeps_its_labels(rule):
    target = clip()
    same = target.image[:, None].expand_as(target.context).clone()
    still = changed(target, context=same, flow=torch.zeros_like(target.flow), valid=torch.ones_like(target.valid))
    expected = TeacherLabels(0.6)(BatchTeacher(), target)
    labels = PropagatedLabels(rule, 0.6)(BatchTeacher(), still)
    first, second = expected.probabilities.topk(2, 1).values.unbind(1)
    clear = first - second > 1e-3  # a pulled belief differs by rounding, which decides between classes that tie
    assert clear.float().mean() > 0.9 and torch.equal(labels.label[clear], expected.label[clear])
    kept = labels.weight > 0
    torch.testing.assert_close(labels.weight[kept], expected.weight[kept], atol=5e-3, rtol=0)
    key = BatchTeacher()(target.image)
    torch.testing.assert_close(labels.context_change, torch.zeros_like(labels.context_change), atol=1e-3, rtol=0)
    assert labels.context_change.shape == (2, 2, *key.shape[1:])


def test_context_is_pulled_along_the_flow():
    target = clip(offset=(1,), batch=1)
    moved = torch.roll(target.image, shifts=(-2, 3), dims=(2, 3))  # a point at (i, j) lies at (i - 2, j + 3)
    flow = torch.tensor([3.0, -2.0])[None, None, :, None, None].expand_as(target.flow).clone()
    target = changed(target, context=moved[:, None], flow=flow, valid=torch.ones_like(target.valid))

    def pixelwise(image):
        return image[:, [0, 1, 2, 0, 1]] * 5

    labels = PropagatedLabels(Trajectory())(pixelwise, target)
    change = labels.context_change[0, 0, :, 2:, :-3]
    torch.testing.assert_close(change, torch.zeros_like(change), atol=1e-3, rtol=0)


def test_frames_that_err_independently_correct_each_other():
    truth = torch.randint(0, CLASSES, (1, 60, 80), generator=torch.Generator().manual_seed(0))
    hot = torch.nn.functional.one_hot(truth, CLASSES).movedim(-1, 1).float()
    noisy = [(2 * hot + 1.5 * torch.randn(hot.shape, generator=torch.Generator().manual_seed(s))) for s in range(5)]
    key, warped = noisy[0].softmax(1), torch.stack(noisy[1:], 1).softmax(2)
    valid = torch.ones(1, 4, 60, 80, dtype=torch.bool)

    def right(rule):
        return (rule(key, warped, valid, (-2, -1, 1, 2)).probabilities.argmax(1) == truth).float().mean()

    assert right(Trajectory()) > right(KeyAlone()) + 0.1


def test_the_teacher_sees_each_frame_alone_key_first():
    target, calls = clip(offset=(-1, 1, 2)), []
    teacher = BatchTeacher()

    def watched(image):
        calls.append(image)
        return teacher(image)

    labels = PropagatedLabels(Trajectory())(watched, target)
    assert isinstance(labels, ClipLabels) and labels.offset == (-1, 1, 2)
    expected = [target.image, *target.context.unbind(1)]
    assert len(calls) == 4 and all(torch.equal(a, b) for a, b in zip(calls, expected, strict=True))
    assert torch.equal(labels.context_weight, target.valid.float())


@pytest.mark.parametrize(("rule", "observe", "frames"), [("none", False, 1), ("none", True, 4), ("fill", False, 4)])
def test_the_teacher_sees_only_frames_that_somebody_looks_at(rule, observe, frames):
    target, calls = clip(offset=(-1, 1, 2)), []
    teacher = BatchTeacher()

    def watched(image):
        calls.append(image)
        return teacher(image)

    labels = PropagatedLabels(NAMED[rule](), observe=observe)(watched, target)
    expected = PropagatedLabels(NAMED[rule]())(teacher, target)
    assert len(calls) == frames and labels.context_change.shape[1] == len(labels.offset) == (3 if observe else 0)
    assert torch.equal(labels.label, expected.label) and torch.equal(labels.weight, expected.weight)
    assert labels.context_weight.shape[1] == len(labels.offset)


def test_what_a_rule_does_not_keep_weighs_nothing():
    target = clip()
    labels, whole = PropagatedLabels(Warp(), 0.3)(BatchTeacher(), target), PropagatedLabels(Trajectory(), 0.3)
    seen = target.valid.any(1)
    assert not labels.weight[~seen].any() and labels.weight[seen].all() and whole(BatchTeacher(), target).weight.all()


def test_a_belief_that_nobody_counts_by_is_not_kept():
    target = clip()
    kept = PropagatedLabels(Trajectory(), 0.6)(BatchTeacher(), target)
    dropped = PropagatedLabels(Trajectory(), 0.6, keep_probabilities=False)(BatchTeacher(), target)
    assert torch.equal(kept.label, kept.probabilities.argmax(1)) and torch.equal(kept.label, dropped.label)
    assert torch.equal(kept.weight, dropped.weight) and dropped.probabilities is None
    assert TeacherLabels(0.6, keep_probabilities=False)(BatchTeacher(), target).probabilities is None
