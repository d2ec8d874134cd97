"""Networks: shapes for any size, gradients everywhere, no randomness in evaluation, normalisation, splitting."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from blda.models.encoders.mit import EfficientAttention, MiT
from blda.models.encoders.resnet import ResNetEncoder
from blda.models.encoders.small import SmallEncoder
from blda.models.encoders.timm_encoder import TimmEncoder
from blda.models.heads.daformer import DAFormerHead
from blda.models.heads.deeplab import DeepLabV2Head
from blda.models.layers import make_norm
from blda.models.segmenter import IMAGENET_MEAN, IMAGENET_STD, Segmenter

CLASSES = 5


def small(norm: str = "group") -> Segmenter:
    encoder = SmallEncoder(norm=norm)
    return Segmenter(encoder, DAFormerHead(encoder.channels, CLASSES, embed=16, norm=norm))


def mit() -> Segmenter:
    encoder = MiT("b0")
    return Segmenter(encoder, DAFormerHead(encoder.channels, CLASSES, embed=16))


def lite0() -> Segmenter:
    encoder = TimmEncoder("tf_efficientnet_lite0")
    return Segmenter(encoder, DAFormerHead(encoder.channels, CLASSES, embed=16), encoder.mean, encoder.std)


def deeplab() -> Segmenter:
    encoder = ResNetEncoder(50)
    return Segmenter(encoder, DeepLabV2Head(encoder.channels, CLASSES))


NETWORKS = [small, mit, lite0, deeplab]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("build", NETWORKS)
@pytest.mark.parametrize("size", [(64, 96), (37, 61), (5, 33)])
def test_logits_have_the_size_of_the_image(build, size):
    net = build().eval()
    with torch.no_grad():
        logits = net(torch.rand(2, 3, *size))
    assert logits.shape == (2, CLASSES, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("build", NETWORKS)
def test_every_parameter_gets_a_gradient(build):
    net = build().train()
    # Blocks start with a scale of zero after their last normalisation; set it to one so that gradients pass.
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.ones_(module.weight)
    logits = net(torch.rand(2, 3, 64, 96))
    F.cross_entropy(logits, torch.randint(0, CLASSES, (2, 64, 96))).backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
    # Biases that a following normalisation or softmax removes get no gradient; every weight does.
    without = [name for name, p in net.named_parameters() if p.ndim > 1 and not p.grad.any()]
    assert not without


@pytest.mark.parametrize("build", NETWORKS)
def test_parameters_belong_to_the_encoder_or_the_head(build):
    assert {name.split(".")[0] for name, _ in build().named_parameters()} == {"encoder", "head"}


@pytest.mark.parametrize("build", NETWORKS)
def test_levels_have_the_declared_channels_and_strides(build):
    encoder = build().eval().encoder
    with torch.no_grad():
        levels = encoder(torch.rand(1, 3, 64, 96))
    assert isinstance(levels, list)
    assert tuple(level.shape[1] for level in levels) == encoder.channels
    strides = (4, 8, 8, 8) if isinstance(encoder, ResNetEncoder) else (4, 8, 16, 32)
    assert [tuple(level.shape[2:]) for level in levels] == [(64 // s, 96 // s) for s in strides]


@pytest.mark.parametrize("build", [small, mit])
def test_randomness_acts_in_training_only_and_is_seeded(build):
    net, image = build(), torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        net.eval()
        assert torch.equal(net(image), net(image))
        net.train()
        first, second = [], []
        for outputs in (first, second):
            torch.manual_seed(1)
            outputs += [net(image), net(image)]
    assert not torch.equal(first[0], first[1])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_no_dropout_when_it_is_zero():
    encoder = SmallEncoder(norm="group")
    net = Segmenter(encoder, DAFormerHead(encoder.channels, CLASSES, embed=16, dropout=0.0, norm="group")).train()
    image = torch.rand(1, 3, 32, 64)
    assert torch.equal(net(image), net(image))


def test_group_norm_does_not_depend_on_the_split_of_a_batch():
    encoder = SmallEncoder(norm="group")
    net = Segmenter(encoder, DAFormerHead(encoder.channels, CLASSES, embed=16, dropout=0.0, norm="group")).double()
    image = torch.rand(4, 3, 32, 64, dtype=torch.float64)
    label = torch.randint(0, CLASSES, (4, 32, 64))
    F.cross_entropy(net(image), label).backward()
    whole = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    for half in (slice(0, 2), slice(2, 4)):
        (F.cross_entropy(net(image[half]), label[half]) / 2).backward()
    for a, p in zip(whole, net.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())


def test_the_network_normalises_its_input():
    encoder, head = SmallEncoder(norm="group"), DAFormerHead(SmallEncoder().channels, CLASSES, embed=16, norm="group")
    mean, std = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    image = torch.rand(2, 3, 32, 64)
    inside = Segmenter(encoder, head).eval()
    outside = Segmenter(encoder, head, mean=(0, 0, 0), std=(1, 1, 1)).eval()
    with torch.no_grad():
        torch.testing.assert_close(inside(image), outside((image - mean) / std))


def test_normalisation_travels_with_the_weights():
    first = Segmenter(SmallEncoder(), DAFormerHead(SmallEncoder().channels, 3, embed=8), (0.1,) * 3, (0.7,) * 3)
    second = Segmenter(SmallEncoder(), DAFormerHead(SmallEncoder().channels, 3, embed=8))
    second.load_state_dict(first.state_dict())
    assert second.mean.flatten().tolist() == pytest.approx([0.1] * 3)
    assert second.std.flatten().tolist() == pytest.approx([0.7] * 3)


def test_channels_last_gives_the_same_logits():
    image = torch.rand(2, 3, 64, 96)
    for build in (small, mit):
        net = build().eval()
        with torch.no_grad():
            expected = net(image)
            net.to(memory_format=torch.channels_last)
            torch.testing.assert_close(net(image.to(memory_format=torch.channels_last)), expected, atol=1e-4, rtol=1e-4)


def test_the_small_encoder_has_at_most_1_5_million_parameters():
    encoder = SmallEncoder()
    assert sum(p.numel() for p in encoder.parameters()) < 1.5e6


def test_a_small_network_learns():
    net = small("batch").train()
    label = torch.randint(0, CLASSES, (2, 2, 4)).repeat_interleave(16, 1).repeat_interleave(16, 2)
    image = (label[:, None] / CLASSES + 0.05 * torch.rand(2, 3, 32, 64)).clamp(0, 1)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = F.cross_entropy(net(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.parametrize(("reduction", "size"), [(1, (4, 6)), (2, (5, 7)), (8, (3, 20))])
def test_attention_equals_the_formula(reduction, size):
    attention, x = EfficientAttention(16, heads=2, reduction=reduction).double(), torch.rand(2, *size, 16).double()
    reduced = x
    if reduction > 1:
        height, width = (max(side, reduction) for side in size)
        padded = F.pad(x, (0, 0, 0, width - size[1], 0, height - size[0]))
        reduced = attention.norm(attention.sr(padded.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
    query = attention.q(x).flatten(1, 2)
    key, value = attention.kv(reduced).flatten(1, 2).split(16, dim=-1)
    heads = []
    for head in (slice(0, 8), slice(8, 16)):
        similarity = query[..., head] @ key[..., head].transpose(1, 2) / 8**0.5
        heads.append(similarity.softmax(-1) @ value[..., head])
    torch.testing.assert_close(attention(x), attention.proj(torch.cat(heads, -1)).view_as(x))


@pytest.mark.parametrize("build", [small, mit])
def test_the_network_compiles_as_one_graph(build):
    net, image = build().eval(), torch.rand(1, 3, 37, 61)
    with torch.no_grad():
        compiled = torch.compile(net, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(image), net(image))


def test_deeplab_sums_its_classifiers():
    head = DeepLabV2Head((4, 8), CLASSES)
    levels = [torch.rand(1, 4, 9, 9), torch.rand(1, 8, 9, 9)]
    expected = sum(classifier(levels[-1]) for classifier in head.classifiers)
    torch.testing.assert_close(head(levels), expected)
    assert [classifier.dilation[0] for classifier in head.classifiers] == [6, 12, 18, 24]


def test_daformer_with_the_papers_width_has_its_size():
    # The paper's table of decoders has 3.7 M parameters for the levels of MiT-B5.
    with torch.device("meta"):
        head = DAFormerHead((64, 128, 320, 512), 19)
    assert 3.6e6 < sum(p.numel() for p in head.parameters()) < 3.8e6


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: make_norm("layer", 8), "'batch' or 'group'"),
        (lambda: MiT("b9"), "b0, b1"),
        (lambda: ResNetEncoder(18), "50, 101"),
        (lambda: TimmEncoder("efficientnet_light0"), "efficientnet_lite0"),
    ],
)
def test_unknown_choices_name_the_known_ones(make, words):
    with pytest.raises(ValueError, match=words):
        make()
