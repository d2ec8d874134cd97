"""Self-training: pseudo-labels, mixing, augmentation, teacher and the sequence of losses."""

import pytest
import torch
from torch import nn

from blda.balance.balanced_criterion import BalancedCriterion
from blda.balance.logit_statistics import LogitStatistics
from blda.balance.soft_counting import sampled_labels
from blda.data import seeding
from blda.data.batches import PseudoLabels
from blda.data.sample import IGNORE, Sample, collate
from blda.selftraining.augmentation import ColourAndBlur
from blda.selftraining.criterion import PlainLoss
from blda.selftraining.mixing import chosen_classes, mix
from blda.selftraining.pseudo_labels import TeacherLabels, pseudo_labels
from blda.selftraining.self_training import SelfTraining
from blda.selftraining.teacher import Teacher


def _sample(seed: int, labelled: bool = True, draws: tuple[int, ...] = (0, 1)) -> Sample:
    g = torch.Generator().manual_seed(seed)
    image = torch.rand(len(draws), 3, 12, 16, generator=g)
    label = torch.randint(0, 4, (len(draws), 12, 16), generator=g)
    label[:, 0] = IGNORE
    return Sample(image, label if labelled else None, tuple(map(str, draws)), draws)


def _pseudo(weight: float = 0.5) -> PseudoLabels:
    return PseudoLabels(torch.full((2, 12, 16), 3), torch.full((2, 12, 16), weight))


def test_confident_share_is_per_image_and_ignored_rows_weigh_nothing():
    probabilities = torch.full((2, 2, 10, 4), 0.5)
    probabilities[1, 0, :5], probabilities[1, 1, :5] = 0.99, 0.01
    pseudo = pseudo_labels(probabilities, 0.968, ignore_top=2, ignore_bottom=3)
    assert (pseudo.weight[0] == 0).all()
    assert (pseudo.weight[1, 2:7] == 0.5).all()
    assert (pseudo.weight[1, :2] == 0).all()
    assert (pseudo.weight[1, 7:] == 0).all()


def test_half_of_the_present_classes_rounded_up_are_chosen():
    label = torch.tensor([[[0, 1, 2, IGNORE]], [[4, 4, 4, 4]], [[IGNORE] * 4]])
    chosen = chosen_classes(label, 5, (0, 1, 2), seed=0)
    assert chosen.sum(1).tolist() == [2, 1, 0]
    assert not chosen[0, 3:].any()
    choices = torch.stack([chosen_classes(label[:1], 5, (draw,), seed=0)[0] for draw in range(40)])
    assert choices[:, :3].any(0).all()


def test_mixed_pixels_are_wholly_of_one_domain():
    source, target, pseudo = _sample(0), _sample(1, labelled=False), _pseudo()
    mixed = mix(source, target, pseudo, num_classes=4, seed=0)
    mask = mixed.from_source
    assert 0.2 < mask.float().mean() < 0.8
    assert torch.equal(mixed.image, torch.where(mask[:, None], source.image, target.image))
    assert torch.equal(mixed.label, torch.where(mask, source.label, pseudo.label))
    assert (mixed.weight[mask] == 1).all()
    assert (mixed.weight[~mask] == 0.5).all()
    assert not (mixed.label[mask] == IGNORE).any()


def test_only_the_mask_tells_the_domain_also_when_target_weights_are_one():
    criterion = BalancedCriterion(LogitStatistics(4, min_pixels=1), LogitStatistics(4, min_pixels=1))
    mixed = mix(_sample(0), _sample(1, labelled=False), _pseudo(weight=1.0), num_classes=4, seed=0)
    logits = torch.randn(2, 4, 12, 16)
    criterion.mixed_loss(logits, mixed, _pseudo(weight=1.0))
    assert criterion.target_statistics.estimated[:4].tolist() == [False, False, False, True]
    assert not criterion.source_statistics.estimated.any()


def test_augmentation_and_mixing_do_not_depend_on_the_split_of_a_batch():
    augment = ColourAndBlur(seed=3)
    image = torch.rand(4, 3, 16, 16)
    whole = augment(image, (4, 5, 6, 7))
    assert torch.equal(whole, torch.cat((augment(image[:2], (4, 5)), augment(image[2:], (6, 7)))))
    assert not torch.equal(whole, image)
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert torch.equal(augment(image, (4, 5, 6, 7)), whole)


def test_seeds_differ_in_every_key():
    seeds = {seeding.seed_of(seed, what, draw) for seed in (0, 1) for what in "ab" for draw in range(100)}
    assert len(seeds) == 400


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, image):
        return self.head(self.body(image))


def _method(criterion) -> SelfTraining:
    torch.manual_seed(0)
    student = _Net()
    return SelfTraining(student, Teacher(student), TeacherLabels(0.3), criterion, ColourAndBlur(0), 4, 0)


def _run(method: SelfTraining) -> dict[str, float]:
    losses = {}
    for name, loss in method.losses(_sample(0), _sample(1, labelled=False)):
        loss.backward()
        losses[name] = loss.item()
    return losses


def test_tau_zero_and_unestimated_statistics_are_plain_self_training():
    plain = _run(_method(PlainLoss()))
    statistics = LogitStatistics(4), LogitStatistics(4)
    assert _run(_method(BalancedCriterion(*statistics, tau=0.0))) == pytest.approx(plain)
    unestimated = LogitStatistics(4, min_pixels=10**9), LogitStatistics(4, min_pixels=10**9)
    assert _run(_method(BalancedCriterion(*unestimated, tau=0.1))) == pytest.approx(plain)
    estimated = LogitStatistics(4), LogitStatistics(4)
    assert _run(_method(BalancedCriterion(*estimated, tau=0.1))) != pytest.approx(plain)


def test_teacher_has_no_dropout_batch_statistics_and_no_gradient():
    torch.manual_seed(0)
    student = _Net()
    teacher = Teacher(student)
    image = torch.rand(2, 3, 8, 8)
    assert torch.equal(teacher(image), teacher(image))
    assert not teacher(image).requires_grad
    shifted = teacher(image + 5)
    assert torch.equal(teacher.train().model.body[3](image), image)
    student.eval()
    assert not torch.allclose(student(image + 5), shifted), "BatchNorm used running statistics"


def test_teacher_average_and_counter_survive_a_restart():
    student, other = _Net(), _Net()
    teacher = Teacher(student, momentum=0.9)
    restored = Teacher(other, momentum=0.9)
    expected, alphas = [p.detach().clone() for p in student.parameters()], []
    for step in range(12):
        alpha = min(1 - 1 / (step + 2), 0.9)
        expected = [alpha * a + (1 - alpha) * b for a, b in zip(expected, other.parameters(), strict=True)]
        alphas.append(alpha)
        if step == 6:
            restored.load_state_dict(teacher.state_dict())
            assert restored.updates == 6
        for copy in (teacher, restored)[: 1 + (step >= 6)]:
            copy.update(other)
    assert (alphas[0], alphas[-1]) == (0.5, 0.9)
    for a, b, c in zip(teacher.model.parameters(), restored.model.parameters(), expected, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, c)


def test_collate_joins_batches_or_names_the_frames_of_another_size():
    joined = collate([_sample(0), _sample(1, draws=(7,))])
    assert joined.image.shape[0] == 3
    assert joined.draw == (0, 1, 7)
    odd = Sample(torch.rand(1, 3, 5, 5), torch.zeros(1, 5, 5).long(), ("odd",), (3,))
    with pytest.raises(ValueError, match="odd"):
        collate([_sample(0), odd])


def test_sampled_labels_have_their_shares_and_are_a_function_of_the_image():
    probabilities = torch.tensor([0.5, 0.0, 0.3, 0.2])[None, :, None, None].expand(2, 4, 40, 60)
    labels = sampled_labels(probabilities, 3)
    shares = torch.stack([(labels == c).float().mean((1, 2)) for c in range(4)], 1)
    # Independent random labels would be off by about 1e-2.
    torch.testing.assert_close(shares, probabilities[:, :, 0, 0], atol=2e-3, rtol=0)
    assert torch.equal(labels, sampled_labels(probabilities, torch.tensor(3))) and torch.equal(labels[0], labels[1])
    assert not torch.equal(labels, sampled_labels(probabilities, 4))
    certain = torch.nn.functional.one_hot(labels, 4).movedim(-1, 1).float()
    assert torch.equal(sampled_labels(certain, 9), labels)


def test_sampled_labels_of_one_pixel_have_their_shares_over_the_steps():
    probabilities = torch.tensor([0.1, 0.6, 0.3])[None, :, None, None]
    labels = torch.cat([sampled_labels(probabilities, number) for number in range(400)]).flatten()
    assert abs(torch.bincount(labels, minlength=3) / 400 - probabilities.flatten()).max() < 0.01
