"""HRDA: fusion, windows, sizes, randomness and the loss of the detail."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blda.balance.balanced_criterion import BalancedCriterion
from blda.balance.cross_entropy import cross_entropy
from blda.balance.logit_statistics import LogitStatistics
from blda.build.network_factory import detail_of, network
from blda.config.schema import Hrda, Model
from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import IGNORE, Sample
from blda.engine import optim
from blda.engine.inference import Predictor
from blda.models.density_regression import DensityRegression
from blda.models.encoders.small import SmallEncoder
from blda.models.heads.daformer import DAFormerHead
from blda.models.heads.deeplab import DeepLabV2Head
from blda.models.heads.segformer import SegFormerHead
from blda.models.hrda import HRDA
from blda.models.segmenter import Segmenter
from blda.models.sliding_window import Window, overlapping
from blda.selftraining.criterion import PlainLoss
from blda.selftraining.hrda_detail_loss import HRDADetailLoss
from blda.selftraining.teacher import Teacher

CLASSES = 4
CROP = (64, 96)
"""Size of a training crop, twice as high and wide as the window."""


class Fixed(nn.Module):
    """An attention that is the same everywhere; its sigmoid is 0 or 1 in float32."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, features: list[Tensor]) -> Tensor:
        return torch.full((len(features[0]), CLASSES, *features[0].shape[-2:]), self.value)


CONTEXT_ONLY, DETAIL_ONLY = Fixed(-200.0), Fixed(200.0)


def hrda(
    attention: nn.Module | None = None, norm: str = "group", detail: tuple[int, int] = (32, 48), windows: int = 32
) -> HRDA:
    torch.manual_seed(0)
    encoder = SmallEncoder(channels=(8, 8, 8, 8), norm=norm)
    head = DAFormerHead(encoder.channels, CLASSES, embed=8, norm=norm, dropout=0.0)
    nn.init.normal_(head.classifier.weight)
    attention = attention or SegFormerHead(encoder.channels, CLASSES, embed=8, norm=norm)
    return HRDA(encoder, head, attention, detail, windows=windows)


def image(size: tuple[int, int] = CROP, batch: int = 2) -> Tensor:
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1))


def halved(picture: Tensor) -> Tensor:
    return F.avg_pool2d(picture, 2)


def on_map(net: HRDA, picture: Tensor) -> Tensor:
    """Return the logits of a plain segmenter at the resolution of the head."""
    return net.head(net.features(picture))


def upsampled(low: Tensor, times: int) -> Tensor:
    return F.interpolate(low, scale_factor=times, mode="bilinear", align_corners=False)


@torch.no_grad()
def test_attention_of_zero_is_the_context_and_of_one_the_detail():
    picture = image()
    net = hrda(CONTEXT_ONLY).eval()
    context = upsampled(upsampled(on_map(net, halved(picture)), 2), 4)
    torch.testing.assert_close(net(picture), context, atol=1e-5, rtol=1e-5)
    net = hrda(DETAIL_ONLY, detail=CROP).eval()
    torch.testing.assert_close(net(picture), upsampled(on_map(net, picture), 4), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("windows", [1, 5, 32])
@pytest.mark.parametrize("size", [CROP, (72, 136)])
def test_detail_equals_a_loop_over_overlapping_windows(size, windows):
    net, picture = hrda(windows=windows).eval(), image(size)
    total, count = torch.zeros(2, CLASSES, *(side // 4 for side in size)), torch.zeros(1, 1, *(s // 4 for s in size))
    tops = {64: [0, 16, 32], 72: [0, 16, 32, 40]}[size[0]]
    lefts = {96: [0, 24, 48], 136: [0, 24, 48, 72, 88]}[size[1]]
    for top in tops:
        for left in lefts:
            logits = on_map(net, picture[:, :, top : top + 32, left : left + 48])
            total[:, :, top // 4 : top // 4 + 8, left // 4 : left // 4 + 12] += logits
            count[:, :, top // 4 : top // 4 + 8, left // 4 : left // 4 + 12] += 1
    assert count.min() == 1
    features = net.features(halved(picture))
    share = net.attention(features).sigmoid()
    fused = upsampled((1 - share) * net.head(features), 2) + upsampled(share, 2) * total / count
    torch.testing.assert_close(net(picture), upsampled(fused, 4), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_another_stride_fuses_on_a_coarser_map():
    """DeepLab-v2's logits have stride 8, and the published code fuses them at that stride."""
    picture, plain = image((64, 128)), hrda(DETAIL_ONLY, detail=(64, 128))
    coarse = HRDA(plain.encoder, plain.head, DETAIL_ONLY, (64, 128), stride=8).eval()
    low = F.interpolate(on_map(plain.eval(), picture), (8, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(coarse(picture), upsampled(low, 8), atol=1e-5, rtol=1e-5)
    assert coarse.cell == 16
    random.seed(0)
    output = HRDA(plain.encoder, plain.head, CONTEXT_ONLY, (32, 48), stride=8).train()(picture)
    assert output.logits.shape == (2, CLASSES, 64, 128)
    assert output.detail.logits.shape == (2, CLASSES, 32, 48)
    assert not any(side % 16 for side in output.detail.window)


def test_logits_are_fused_inside_the_window_and_the_contexts_outside():
    picture, both, alone = image(), hrda().train(), hrda(CONTEXT_ONLY).train()
    tops = set()
    for seed in range(6):
        random.seed(seed)
        output = both(picture)
        window = output.detail.window
        random.seed(seed)
        context = alone(picture)
        assert context.detail.window == window
        assert torch.equal(context.detail.logits, output.detail.logits)
        differs = (output.logits != context.logits).any(1).any(0)
        assert window.of(differs).float().mean() > 0.9
        reach = 12  # pixels that two bilinear interpolations reach, of strides 8 and 4
        top, left = max(window.top - reach, 0), max(window.left - reach, 0)
        differs[top : window.top + window.height + reach, left : window.left + window.width + reach] = False
        assert not differs.any()
        tops.add(window.top)
    assert len(tops) > 1


def test_windows_are_aligned_reach_all_borders_and_follow_the_seed():
    net, picture = hrda().train(), image(batch=1)
    windows = []
    for seed in range(40):
        random.seed(seed)
        windows.append(net(picture).detail.window)
    assert {(w.height, w.width) for w in windows} == {(32, 48)}
    assert {w.top for w in windows} == set(range(0, 33, 8))
    assert {w.left for w in windows} == set(range(0, 49, 8))
    random.seed(0)
    assert net(picture).detail.window == windows[0]


def test_detail_logits_depend_on_their_window_alone():
    net, picture = hrda().train(), image()
    output = net(picture)
    alone = upsampled(on_map(net, output.detail.window.of(picture)), 4)
    torch.testing.assert_close(output.detail.logits, alone)


def test_gradients_reach_all_parameters_but_only_the_windows_pixels():
    net, picture = hrda(DETAIL_ONLY).train(), image().requires_grad_()
    output = net(picture)
    (gradient,) = torch.autograd.grad(output.detail.logits.square().sum(), picture)
    window = output.detail.window
    assert window.of(gradient).abs().amax(1).gt(0).float().mean() > 0.9
    window.of(gradient).zero_()
    assert not gradient.any()

    net = hrda().train()
    output = net(image())
    F.cross_entropy(output.logits, torch.randint(CLASSES, (2, *CROP))).backward()
    without = [name for name, parameter in net.named_parameters() if parameter.grad is None]
    assert not without
    assert all(parameter.grad.any() for parameter in net.attention.parameters() if parameter.ndim > 1)


@pytest.mark.parametrize("size", [(33, 50), (61, 37), (5, 9), (64, 97)])
def test_images_of_any_size_also_below_the_window(size):
    net, picture = hrda(), image(size)
    with torch.no_grad():
        assert net.eval()(picture).shape == (2, CLASSES, *size)
    for _ in range(4):
        output = net.train()(picture)
        logits, window = output.detail
        assert output.logits.shape == (2, CLASSES, *size)
        assert logits.shape[2:] == (window.height, window.width)
        assert window.of(picture).shape[2:] == logits.shape[2:]
        assert output.logits.isfinite().all()
        assert logits.isfinite().all()


@torch.no_grad()
def test_an_image_below_the_window_is_one_window():
    net = hrda(DETAIL_ONLY, detail=(80, 160)).eval()
    torch.testing.assert_close(net(image()), upsampled(on_map(net, image()), 4), atol=1e-5, rtol=1e-5)


def test_windows_cover_an_image_and_overlap_by_half():
    assert [w.top for w in overlapping((1024, 512), (512, 512))] == [0, 256, 512]
    assert [w.left for w in overlapping((512, 700), (512, 512))] == [0, 188]
    assert overlapping((8, 8), (8, 8)) == [Window(0, 0, 8, 8)]
    count = torch.zeros(72, 136)
    for window in overlapping((72, 136), (32, 48)):
        window.of(count).add_(1)
    assert count.min() == 1


def test_a_crop_is_placed_where_it_was_cut():
    whole, window = torch.rand(1, 2, 16, 24), Window(8, 4, 4, 12)
    placed = window.placed(window.of(whole), whole)
    assert torch.equal(window.of(placed), window.of(whole))
    assert placed.sum() == pytest.approx(float(window.of(whole).sum()))


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_teacher_predicts_each_call_independently(norm):
    """BatchNorm of the teacher normalises with the windows of the same call, so other calls change nothing."""
    net = hrda(norm=norm)
    teacher, other = Teacher(net), Teacher(net)
    first = teacher(image())
    teacher(torch.rand(2, 3, *CROP))
    assert torch.equal(teacher(image()), first)
    other(torch.rand(2, 3, *CROP))
    assert torch.equal(other(image()), first)
    assert first.shape == (2, CLASSES, *CROP)


def test_evaluation_is_deterministic_and_independent_of_the_batch():
    net = hrda().eval()
    state = torch.get_rng_state()
    both = Predictor(net)(image())
    assert torch.equal(torch.get_rng_state(), state)
    for row in (0, 1):
        torch.testing.assert_close(Predictor(net)(image()[row : row + 1])[0], both[row], atol=1e-5, rtol=1e-5)


def test_fusion_is_in_float32_under_autocast():
    net, picture = hrda(norm="batch"), image()
    with torch.autocast("cpu", torch.bfloat16):
        output = net.train()(picture)
        assert output.logits.dtype == output.detail.logits.dtype == torch.float32
        output.logits.mean().backward()
        whole = net.eval()(picture)
    assert whole.dtype == torch.float32
    with torch.no_grad():
        torch.testing.assert_close(whole, net(picture), atol=0.1, rtol=0.05)


def test_the_context_is_encoded_first():
    net, sizes = hrda(), []
    net.encoder.register_forward_hook(lambda _, arguments, __: sizes.append(tuple(arguments[0].shape[-2:])))
    net.train()(image())
    net.eval()(image())
    assert sizes == [(32, 48), (32, 48), (32, 48), (32, 48)]
    assert len(hrda().eval().encoder(image())) == 4


@torch.no_grad()
@pytest.mark.parametrize("scale", [0.25, 1 / 3, 1.0])
def test_logits_have_the_images_size_for_other_scales(scale):
    torch.manual_seed(0)
    encoder = SmallEncoder(channels=(8, 8, 8, 8), norm="group")
    heads = (SegFormerHead(encoder.channels, CLASSES, embed=8, norm="group") for _ in range(2))
    net = HRDA(encoder, *heads, (48, 48), scale=scale)
    assert net.eval()(image((70, 100))).shape == (2, CLASSES, 70, 100)
    assert net.train()(image((70, 100))).logits.shape == (2, CLASSES, 70, 100)


def test_a_head_of_another_stride_is_resized():
    torch.manual_seed(0)
    encoder = SmallEncoder(channels=(8, 8, 8, 8), norm="group")
    heads = (DeepLabV2Head(encoder.channels, CLASSES, dilations=(1, 2)) for _ in range(2))
    net = HRDA(encoder, *heads, (32, 48))
    assert net.train()(image()).logits.shape == (2, CLASSES, *CROP)
    assert net.eval()(image()).shape == (2, CLASSES, *CROP)


def test_attention_learns_at_the_heads_rate():
    net = hrda()
    groups = optim.adamw(net, 1e-3, 10.0, 0.01).param_groups
    fast = {id(parameter) for group in groups if group["peak"] > 5e-3 for parameter in group["params"]}
    assert fast == {id(p) for module in (net.head, net.attention) for p in module.parameters()}


def _batch() -> tuple[Tensor, Sample, Mixed, PseudoLabels]:
    g = torch.Generator().manual_seed(0)
    label = torch.randint(CLASSES, (2, *CROP), generator=g)
    label[:, :5] = IGNORE
    weight = torch.rand(2, *CROP, generator=g)
    from_source = torch.rand(2, *CROP, generator=g) < 0.5
    mixed = Mixed(image(), label, torch.where(from_source, 1.0, weight), from_source)
    return label, Sample(image(), label, ("a", "b"), (0, 1)), mixed, PseudoLabels(label, weight)


def test_losses_are_of_the_fused_logits_and_the_detail_window():
    label, source, mixed, pseudo = _batch()
    output = hrda().train()(source.image)
    logits, (top, left, height, width) = output.detail
    rows, columns = slice(top, top + height), slice(left, left + width)
    criterion = HRDADetailLoss(PlainLoss(), PlainLoss(), 0.1)
    own = cross_entropy(logits, label[:, rows, columns])
    expected = 0.9 * cross_entropy(output.logits, label) + 0.1 * own
    torch.testing.assert_close(criterion.source_loss(output, source), expected)
    own = cross_entropy(logits, label[:, rows, columns], mixed.weight[:, rows, columns])
    expected = 0.9 * cross_entropy(output.logits, label, mixed.weight) + 0.1 * own
    torch.testing.assert_close(criterion.mixed_loss(output, mixed, pseudo), expected)


def test_balanced_statistics_count_the_fused_logits_alone():
    _, source, mixed, pseudo = _batch()
    output = hrda().train()(source.image)
    criteria = [BalancedCriterion(*(LogitStatistics(CLASSES, min_pixels=1, seed=s) for s in (0, 1))) for _ in range(2)]
    alone, inside = criteria[0], HRDADetailLoss(criteria[1], PlainLoss())
    for criterion in (alone, inside):
        criterion.source_loss(output, source)
        criterion.mixed_loss(output, mixed, pseudo)
    assert inside.state().keys() == alone.state().keys()
    for name, module in inside.state().items():
        for key, value in module.state_dict().items():
            assert torch.equal(value, alone.state()[name].state_dict()[key])
    assert inside.numbers().keys() == alone.numbers().keys()


def test_training_reduces_both_losses():
    label = torch.zeros(2, 32, 48, dtype=torch.int64)
    label[:, :, 24:] = 1
    picture = torch.where((label == 0)[:, None], 0.2, 0.8) + 0.05 * image((32, 48))
    source = Sample(picture, label, ("a", "b"), (0, 1))
    net, criterion = hrda(detail=(16, 24)).train(), HRDADetailLoss(PlainLoss(), PlainLoss())
    descent, losses = torch.optim.Adam(net.parameters(), 1e-2), []
    for step in range(20):
        random.seed(step)
        loss = criterion.source_loss(net(picture), source)
        descent.zero_grad()
        loss.backward()
        descent.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    assert (net.eval()(picture).argmax(1) == label).float().mean() > 0.9


def test_default_window_is_half_of_the_crop_in_whole_cells():
    assert detail_of(Hrda(), (1024, 1024)) == (512, 512)
    assert detail_of(Hrda(), (760, 1000)) == (376, 496)
    assert detail_of(Hrda(), (9, 40)) == (8, 16)
    assert detail_of(Hrda(detail=(64, 64)), None) == (64, 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detail": (30, 32)}, r"detail is \[30, 32\]; its sides must be multiples of 8"),
        ({"detail": (128, 32)}, r"detail \[128, 32\] exceeds source.crop \[64, 96\]"),
        ({"scale": 0.7}, r"scale is 0.7"),
        ({"scale": 0.0}, r"scale is 0.0"),
        ({"windows": 0}, r"windows is 0"),
        ({"attention": {"name": "segfromer"}}, r"model.hrda.attention: unknown name 'segfromer'.*segformer"),
    ],
)
def test_a_wrong_setting_is_named_in_the_error(changes, message):
    encoder = {"name": "small", "channels": [8, 8, 8, 8], "norm": "group"}
    heads = {"segformer": SegFormerHead}
    model = Model(encoder, {"name": "segformer", "embed": 8}, Hrda(**{"attention": {"name": "segformer"}, **changes}))
    with pytest.raises(ValueError, match=message):
        network(model, CLASSES, False, heads, Segmenter, CROP)


def test_detail_without_a_crop_is_an_error():
    with pytest.raises(ValueError, match=r"model.hrda.detail is missing"):
        detail_of(Hrda(), None)


def test_strength_outside_0_and_1_is_an_error():
    with pytest.raises(ValueError, match=r"strength is 2"):
        HRDADetailLoss(PlainLoss(), PlainLoss(), 2)


def test_density_and_two_resolutions_exclude_each_other():
    with pytest.raises(ValueError, match=r"blda.density.*model.hrda"):
        DensityRegression(hrda())
