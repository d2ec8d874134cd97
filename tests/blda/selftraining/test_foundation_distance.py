"""Distance to frozen features on both domains: its formula, what learns from it, and what it leaves alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import Sample
from blda.models.encoders.small import SmallEncoder
from blda.models.encoders.vit_pyramid import ViTPyramid
from blda.models.feature_tap import FeatureTap
from blda.models.frozen_features import FrozenFeatures, projection
from blda.models.heads.daformer import DAFormerHead
from blda.models.segmenter import Segmenter
from blda.selftraining.augmentation import unchanged
from blda.selftraining.criterion import PlainLoss
from blda.selftraining.foundation_distance import SourceFoundationDistance, TargetFoundationDistance, distance


def _segmenter() -> Segmenter:
    encoder = SmallEncoder(channels=(8, 8, 8, 8), norm="group")
    head = DAFormerHead(encoder.channels, 4, embed=8, norm="group", dropout=0.0)
    return Segmenter(encoder, head, encoder.mean, encoder.std)


def _frozen(size: tuple[int, int] | None = None) -> FrozenFeatures:
    encoder = SmallEncoder(channels=(8, 8, 8, 12), norm="group")
    return FrozenFeatures(encoder, encoder.mean, encoder.std, size)


def _tapped(frozen: FrozenFeatures) -> FeatureTap:
    segmenter = _segmenter()
    return FeatureTap(segmenter, segmenter.encoder, projection(8, frozen.channels))


def _batch() -> Sample:
    return Sample(torch.rand(2, 3, 64, 96), torch.randint(0, 4, (2, 64, 96)), ("a", "b"), (0, 1))


def _by_loop(predicted: Tensor, fixed: Tensor) -> float:
    total = []
    for b in range(len(fixed)):
        for i in range(fixed.shape[2]):
            for j in range(fixed.shape[3]):
                p, f = predicted[b, :, i, j].double(), fixed[b, :, i, j].double()
                apart = (p - f).abs()
                smooth = torch.where(apart < 1, 0.5 * apart**2, apart - 0.5).mean()
                total.append(0.1 * smooth + 0.9 * (1 - (p @ f) / (p.norm() * f.norm())))
    return float(sum(total) / len(total))


def test_distance_equals_a_loop_over_pixels():
    predicted, fixed = 2 * torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    assert distance(predicted, fixed).item() == pytest.approx(_by_loop(predicted, fixed), rel=1e-5)
    assert distance(fixed, fixed).item() == pytest.approx(0, abs=1e-6)
    constant = torch.full((1, 5, 2, 2), 0.3)
    assert distance(constant, constant[..., :1].expand(1, 5, 2, 7)).item() == pytest.approx(0, abs=1e-6)


def test_source_and_target_add_the_weighted_distance_of_their_images():
    frozen = _frozen()
    tapped, source = _tapped(frozen), _batch()
    output = tapped(source.image)
    apart = distance(output.projected, frozen(source.image)).item()
    criterion = SourceFoundationDistance(PlainLoss(), frozen, tapped.projection, 0.3)
    plain = PlainLoss().source_loss(output, source)
    assert (criterion.source_loss(output, source) - plain).item() == pytest.approx(0.3 * apart, rel=1e-4)
    assert criterion.numbers()["foundation_distance"].item() == pytest.approx(apart)
    none = SourceFoundationDistance(PlainLoss(), frozen, tapped.projection, 0.3, active=False)
    assert none.source_loss(output, source) == plain
    pseudo = PseudoLabels(source.label, torch.ones(2, 64, 96))
    darker = TargetFoundationDistance(frozen, 0.3, lambda image, draw: image / 2)
    expected = 0.3 * distance(tapped(source.image / 2).projected, frozen(source.image)).item()
    assert darker(tapped, source, pseudo, source).item() == pytest.approx(expected), "the frozen one sees clean images"
    mixed = Mixed(source.image, source.label, pseudo.weight, torch.zeros(2, 64, 96, dtype=torch.bool))
    assert criterion.mixed_loss(output, mixed, pseudo) == PlainLoss().mixed_loss(output, mixed, pseudo)


def test_only_encoder_and_projection_learn_and_every_parameter_has_a_gradient():
    frozen = _frozen()
    tapped, target = _tapped(frozen), _batch()
    pseudo = PseudoLabels(target.label, torch.ones(2, 64, 96))
    before = copy.deepcopy(frozen.state_dict())
    TargetFoundationDistance(frozen, 1.0, unchanged)(tapped, target, pseudo, target).backward()
    assert all(p.grad is not None for p in tapped.parameters()), "several processes wait for each"
    assert not any(p.grad.any() for p in tapped.segmenter.head.parameters())
    assert any(p.grad.any() for p in tapped.segmenter.encoder.parameters())
    assert all(p.grad.any() for p in tapped.projection.parameters())
    assert all(p.grad is None for p in frozen.parameters())
    assert not frozen.encoder.training
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    tapped.zero_grad()
    mixed = Mixed(target.image, target.label, pseudo.weight, torch.zeros(2, 64, 96, dtype=torch.bool))
    criterion = SourceFoundationDistance(PlainLoss(), frozen, tapped.projection, 1.0)
    criterion.mixed_loss(tapped(target.image), mixed, pseudo).backward()
    assert all(p.grad is not None and not p.grad.any() for p in tapped.projection.parameters())


def test_the_distance_can_be_learnt_away():
    frozen = _frozen(size=(32, 32))
    tapped, target = _tapped(frozen), _batch()
    pseudo = PseudoLabels(target.label, torch.ones(2, 64, 96))
    loss, optimizer = TargetFoundationDistance(frozen, 1.0, unchanged), torch.optim.AdamW(tapped.parameters(), 1e-2)
    values = []
    for _ in range(40):
        optimizer.zero_grad()
        value = loss(tapped, target, pseudo, target)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.3 * values[0]


def test_the_loss_does_not_depend_on_the_split_of_a_batch():
    frozen = _frozen()
    tapped, target = _tapped(frozen), _batch()
    loss = TargetFoundationDistance(frozen, 0.1, unchanged)
    ones = [Sample(target.image[b : b + 1], None, target.name[b : b + 1], target.draw[b : b + 1]) for b in (0, 1)]
    halves = [loss(tapped, one, None, None) for one in ones]
    torch.testing.assert_close(torch.stack(halves).mean(), loss(tapped, target, None, None))


def test_of_a_vit_the_pretrained_tokens_are_the_features_not_the_random_pyramid():
    encoder = ViTPyramid("vit_tiny_patch16_224", width=8).eval()
    image = torch.rand(1, 3, 48, 64)
    frozen = FrozenFeatures(copy.deepcopy(encoder), encoder.mean, encoder.std, (32, 32))
    small = nn.functional.interpolate(image, (32, 32), mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (encoder.mean, encoder.std))
    with torch.no_grad():
        tokens = encoder.net.forward_features((small - mean) / std)[:, encoder.net.num_prefix_tokens :]
    assert frozen.channels == 192
    torch.testing.assert_close(frozen(image).flatten(2).mT, tokens)
