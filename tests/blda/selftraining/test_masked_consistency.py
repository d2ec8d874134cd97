"""Masked consistency: the image that the student gets, and the loss of its prediction."""

import pytest
import torch
from torch import Tensor, nn

from blda.balance.cross_entropy import cross_entropy
from blda.data.batches import PseudoLabels
from blda.data.sample import IGNORE, Sample
from blda.models.output import Detail, Output
from blda.models.sliding_window import Window
from blda.selftraining.augmentation import ColourAndBlur
from blda.selftraining.criterion import PlainLoss
from blda.selftraining.hrda_detail_loss import HRDADetailLoss
from blda.selftraining.masked_consistency import MaskedConsistency
from blda.selftraining.masking import BlockMask
from blda.selftraining.self_training import SelfTraining
from blda.selftraining.teacher import Teacher


class _Recorder(nn.Module):
    """A 1 x 1 network that keeps the images it was called with."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.images = nn.Conv2d(3, 4, 1), []

    def forward(self, image: Tensor) -> Tensor:
        self.images.append(image)
        return self.net(image)


def _target() -> tuple[Sample, PseudoLabels]:
    g = torch.Generator().manual_seed(0)
    target = Sample(torch.rand(2, 3, 32, 48, generator=g), None, ("a", "b"), (5, 6))
    weight = torch.rand(2, 32, 48, generator=g)
    weight[:, -8:] = 0
    return target, PseudoLabels(torch.randint(0, 4, (2, 32, 48), generator=g), weight)


def _mask(fill: float = 0.25) -> BlockMask:
    return BlockMask(ColourAndBlur(seed=9), seed=9, block=16, ratio=0.5, fill=(fill,) * 3)


def test_student_gets_masked_augmented_image_and_learns_all_labels():
    target, pseudo = _target()
    student = _Recorder()
    loss = MaskedConsistency(_mask(), PlainLoss())(student, target, pseudo)
    (masked,) = student.images
    hidden = (masked == 0.25).all(1)
    blocks = hidden.view(2, 2, 16, 3, 16).movedim(3, 2).flatten(3)
    assert (blocks.all(3) | ~blocks.any(3)).all()
    assert 0 < blocks.all(3).sum() < blocks[..., 0].numel()
    clear = ColourAndBlur(seed=9)(target.image, target.draw)
    assert torch.equal(torch.where(hidden[:, None], 0, masked), torch.where(hidden[:, None], 0, clear))
    torch.testing.assert_close(loss, cross_entropy(student.net(masked), pseudo.label, pseudo.weight))


def test_hidden_blocks_have_the_mean_that_the_network_subtracts():
    target, pseudo = _target()
    mean = torch.tensor([0.4, 0.5, 0.6])
    student = _Recorder()
    mask = BlockMask(ColourAndBlur(seed=9), seed=9, block=16, ratio=1.0, fill=mean.tolist())
    MaskedConsistency(mask, PlainLoss())(student, target, pseudo)
    assert torch.equal(student.images[0] - mean.view(1, 3, 1, 1), torch.zeros_like(target.image))


def test_loss_does_not_depend_on_the_split_of_a_batch():
    target, pseudo = _target()
    student, masked = _Recorder(), MaskedConsistency(_mask(), PlainLoss())
    whole = masked(student, target, pseudo)
    losses = []
    for b in (0, 1):
        one = Sample(target.image[b : b + 1], None, target.name[b : b + 1], target.draw[b : b + 1])
        losses.append(masked(student, one, PseudoLabels(pseudo.label[b : b + 1], pseudo.weight[b : b + 1])))
    torch.testing.assert_close(torch.stack(losses).mean(), whole)


def test_hrda_detail_learns_the_labels_of_its_window():
    target, pseudo = _target()
    window = Window(8, 16, 16, 24)

    class TwoResolutions(_Recorder):
        def forward(self, image: Tensor) -> Output:
            logits = super().forward(image)
            return Output(logits, detail=Detail(2 * window.of(logits), window))

    student = TwoResolutions()
    loss = MaskedConsistency(_mask(), HRDADetailLoss(PlainLoss(), PlainLoss(), 0.1))(student, target, pseudo)
    logits = student.net(student.images[0])
    fused = cross_entropy(logits, pseudo.label, pseudo.weight)
    detail = cross_entropy(2 * window.of(logits), window.of(pseudo.label), window.of(pseudo.weight))
    torch.testing.assert_close(loss, 0.9 * fused + 0.1 * detail)


def test_an_unused_density_regression_gets_a_gradient_of_zero():
    target, pseudo = _target()

    class Regression(_Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Conv2d(3, 1, 1)

        def forward(self, image: Tensor) -> Output:
            return Output(super().forward(image), density=self.head(image)[:, 0])

    student = Regression()
    MaskedConsistency(_mask(), PlainLoss())(student, target, pseudo).backward()
    assert all(p.grad is not None for p in student.parameters())
    assert not student.head.weight.grad.any()


@pytest.mark.parametrize("masked", [False, True])
def test_masked_loss_comes_third_and_reuses_the_pseudo_labels(masked):
    target, pseudo = _target()
    label = torch.randint(0, 4, (2, 32, 48), generator=torch.Generator().manual_seed(1))
    label[:, 0] = IGNORE
    source = Sample(torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(2)), label, ("a", "b"), (0, 1))
    student, labelled = _Recorder(), []

    def pseudo_labeler(teacher: Teacher, clean: Sample) -> PseudoLabels:
        labelled.append(clean)
        return pseudo

    further = {"masked": MaskedConsistency(_mask(), PlainLoss())} if masked else {}
    components = (student, Teacher(student), pseudo_labeler, PlainLoss(), ColourAndBlur(seed=3), 4, 0)
    names = []
    for name, loss in SelfTraining(*components, further=further).losses(source, target):
        names.append(name)
        loss.backward()
    assert names == ["source", "mixed", "masked"][: 3 if masked else 2]
    assert len(student.images) == len(names)
    assert len(labelled) == 1
