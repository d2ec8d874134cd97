"""Feature distance to the pretrained encoder, compared with a loop over pixels, and the tap that returns features."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import IGNORE, Sample
from blda.engine import optim
from blda.models.density_regression import DensityRegression
from blda.models.encoders.small import SmallEncoder
from blda.models.feature_tap import FeatureTap
from blda.models.heads.daformer import DAFormerHead
from blda.models.output import Output
from blda.models.segmenter import Segmenter
from blda.selftraining.criterion import PlainLoss
from blda.selftraining.feature_distance import FeatureDistance, thing_pixels

THINGS = (1, 3)


def _segmenter() -> Segmenter:
    torch.manual_seed(0)
    encoder = SmallEncoder(channels=(8, 8, 8, 8), norm="group")
    head = DAFormerHead(encoder.channels, 4, embed=8, norm="group", dropout=0.0)
    return Segmenter(encoder, head, encoder.mean, encoder.std)


def _source(height: int = 64, width: int = 96) -> Sample:
    g = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 4, (2, height // 16, width // 16), generator=g)
    label = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)
    label[torch.rand(label.shape, generator=g) < 0.2] = IGNORE
    label[:, :32, :32] = 1
    return Sample(torch.rand(2, 3, height, width, generator=g), label, ("a", "b"), (0, 1))


def _by_loop(student: Tensor, fixed: Tensor, label: Tensor, ratio: float) -> float:
    height, width = (label.shape[i] // student.shape[i + 1] for i in (1, 2))
    distances = []
    for b in range(len(label)):
        for i in range(student.shape[2]):
            for j in range(student.shape[3]):
                area = label[b, i * height : (i + 1) * height, j * width : (j + 1) * width]
                shares = [(area == thing).float().mean().item() for thing in THINGS]
                if max(shares) >= ratio:
                    distances.append((student[b, :, i, j] - fixed[b, :, i, j]).pow(2).sum().sqrt().item())
    assert 1 < len(distances) < student[:, 0].numel()
    return sum(distances) / len(distances)


def _moved(segmenter: Segmenter) -> nn.Module:
    """Return a copy of the encoder, then change the parameters of the segmenter's own."""
    before = copy.deepcopy(segmenter.encoder)
    with torch.no_grad():
        for parameter in segmenter.encoder.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return before


def test_distance_equals_a_loop_over_thing_pixels():
    segmenter, source = _segmenter(), _source()
    before = _moved(segmenter)
    criterion = FeatureDistance(PlainLoss(), before, THINGS, strength=0.3, min_ratio=0.6)
    output = FeatureTap(segmenter, segmenter.encoder)(source.image)
    normal = (source.image - segmenter.mean) / segmenter.std
    expected = _by_loop(segmenter.encoder(normal)[-1], before(normal)[-1], source.label, 0.6)
    plain = PlainLoss().source_loss(output, source)
    torch.testing.assert_close(criterion.source_loss(output, source) - plain, torch.tensor(0.3 * expected))
    assert criterion.numbers()["feature_distance"].item() == pytest.approx(expected)
    none = torch.zeros_like(source.label, dtype=torch.bool)
    mixed = Mixed(source.image, source.label, torch.ones_like(source.label).float(), none)
    pseudo = PseudoLabels(source.label, mixed.weight)
    assert torch.equal(criterion.mixed_loss(output, mixed, pseudo), PlainLoss().mixed_loss(output, mixed, pseudo))


def test_a_thing_pixel_needs_the_minimum_share_of_one_class():
    label = torch.zeros(1, 8, 16, dtype=torch.long)
    label[0, :6, :8] = 1  # 3/4 of the left half
    label[0, :4, 8:], label[0, 4:, 8:] = 1, 3  # two things, half each
    assert thing_pixels(label, (1, 2), THINGS, 0.75).tolist() == [[[True, False]]]
    assert thing_pixels(label, (1, 2), THINGS, 0.76).tolist() == [[[False, False]]]
    assert thing_pixels(label[:, :7, :15], (2, 2), THINGS, 0.75).shape == (1, 2, 2), "sizes that do not divide"


def test_only_the_student_learns_and_zero_distance_has_finite_gradient():
    segmenter, source = _segmenter(), _source()
    tapped, before = FeatureTap(segmenter, segmenter.encoder), copy.deepcopy(segmenter.encoder)
    criterion = FeatureDistance(PlainLoss(), before, THINGS, min_ratio=0.6)
    distance = criterion.distance(tapped(source.image).features, source.label)
    assert distance == 0
    distance.backward()
    assert all(p.grad is None or p.grad.eq(0).all() for p in segmenter.parameters())
    fixed = _moved(segmenter)
    criterion = FeatureDistance(PlainLoss(), fixed, THINGS, min_ratio=0.6)
    criterion.distance(tapped(source.image).features, source.label).backward()
    assert any(p.grad.any() for p in segmenter.encoder.parameters())
    assert all(p.grad is None or not p.grad.any() for p in segmenter.head.parameters())
    assert all(p.grad is None and not p.requires_grad for p in fixed.parameters())
    assert not fixed.training


def test_a_batch_without_thing_pixels_has_distance_zero():
    segmenter, source = _segmenter(), _source()
    criterion = FeatureDistance(PlainLoss(), _moved(segmenter), THINGS)
    features = FeatureTap(segmenter, segmenter.encoder)(source.image).features
    distance = criterion.distance(features, torch.full_like(source.label, IGNORE))
    assert distance == 0
    distance.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in segmenter.parameters())


def test_the_distance_is_in_float32_under_autocast():
    segmenter, source = _segmenter(), _source()
    before = _moved(segmenter)

    def autocast() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16)

    values = []
    for context in (nullcontext, autocast):
        with context():
            output = FeatureTap(segmenter, segmenter.encoder)(source.image)
        criterion = FeatureDistance(PlainLoss(), before, THINGS, min_ratio=0.6, autocast=context)
        values.append(criterion.distance(output.features, source.label))
    assert values[1].dtype == torch.float32
    torch.testing.assert_close(*values, rtol=0.05, atol=0)


class _Twice(Segmenter):
    """A segmenter that encodes a half-size image first, as HRDA does with its context."""

    def forward(self, image: Tensor) -> Output:
        self.features(image[..., ::2, ::2])
        return Output(super().forward(image), density=image[:, 0])


def test_tap_takes_the_first_encoder_call_and_keeps_the_other_outputs():
    base, image = _segmenter(), torch.rand(2, 3, 64, 64)
    twice = _Twice(base.encoder, base.head, base.encoder.mean, base.encoder.std)
    output = FeatureTap(twice, twice.encoder)(image)
    assert torch.equal(output.logits, base(image))
    assert torch.equal(output.density, image[:, 0])
    assert output.features.input.shape == (2, 3, 32, 32)
    assert torch.equal(output.features.last, base.features(image[..., ::2, ::2])[-1])
    assert not base.encoder._forward_hooks


def test_tap_adds_no_parameters_and_wraps_the_density_regression():
    segmenter = _segmenter()
    regression = DensityRegression(segmenter)
    tapped = FeatureTap(regression, segmenter.encoder)
    output = tapped(torch.rand(2, 3, 32, 32))
    assert output.density is not None and output.features is not None
    assert [p.shape for p in tapped.parameters()] == [p.shape for p in regression.parameters()]
    assert len(optim.adamw(regression, 1.0, 10.0, 0.1).param_groups) == 4


@pytest.mark.parametrize(
    ("keywords", "message"),
    [({"things": ()}, "no class of the run"), ({"things": (1,), "min_ratio": 0.5}, "must be above 0.5")],
)
def test_meaningless_settings_are_errors(keywords, message):
    with pytest.raises(ValueError, match=message):
        FeatureDistance(PlainLoss(), SmallEncoder(channels=(8, 8, 8, 8)), **keywords)
