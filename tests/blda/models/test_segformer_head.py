"""The SegFormer head, whose reordered layers compute the published function, and the deep stem of DeepLab-v2."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from blda.models.density_regression import DensityRegression
from blda.models.encoders.mit import MiT
from blda.models.encoders.resnet import ResNetEncoder
from blda.models.heads.segformer import SegFormerHead
from blda.models.segmenter import Segmenter
from blda.models.weights.reading import load_encoder_weights

CHANNELS = (4, 6, 8, 10)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def levels(**keywords: object) -> list[Tensor]:
    return [torch.rand(2, c, 16 // 2**i, 24 // 2**i, **keywords) for i, c in enumerate(CHANNELS)]


def as_described(head: SegFormerHead, features: list[Tensor]) -> Tensor:
    """Decode in the order of section 3.2: embed, resize, join, fuse."""
    maps = [embed(level) for embed, level in zip(head.embed, features, strict=True)]
    size = maps[0].shape[2:]
    return head.fuse(torch.cat([F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in maps], 1))


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_decoding_gradients_and_statistics_equal_the_description(norm):
    head = SegFormerHead(CHANNELS, 3, embed=8, norm=norm).double().train()
    other = SegFormerHead(CHANNELS, 3, embed=8, norm=norm).double().train()
    other.load_state_dict(head.state_dict())
    features = levels(dtype=torch.float64)
    ours, theirs = head.decode(features), as_described(other, features)
    torch.testing.assert_close(ours, theirs)
    weight = torch.rand_like(ours)
    for decoded in (ours, theirs):
        (decoded * weight).sum().backward()
    # BatchNorm removes the mean of its input, so the gradients of biases before it are rounding errors.
    for a, b in zip(head.parameters(), other.parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, atol=1e-9, rtol=1e-7)
    for a, b in zip(head.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b)


def test_head_works_with_mit_and_density_regression():
    encoder = MiT("b0")
    net = Segmenter(encoder, SegFormerHead(encoder.channels, 3, embed=8)).eval()
    image = torch.rand(1, 3, 37, 61)
    with torch.no_grad():
        logits = net(image)
        output = DensityRegression(net)(image)
    assert logits.shape == (1, 3, 37, 61)
    assert torch.equal(output.logits, logits)
    assert output.density.shape == (1, 37, 61)


def test_a_b0_segmenter_has_the_published_size():
    # 3.7 M parameters for 19 classes: 3.3 M of the encoder, 0.4 M of the head (transformers' SegFormer-B0: 3 719 027).
    encoder = MiT("b0")
    net = Segmenter(encoder, SegFormerHead(encoder.channels, 19))
    assert sum(p.numel() for p in net.parameters()) == 3_719_027


def test_the_deep_stem_equals_resnet_v1c(tmp_path):
    own = ResNetEncoder(50, stem="deep").eval()
    other = timm.create_model("resnet50c", features_only=True, output_stride=8, out_indices=(1, 2, 3, 4)).eval()
    other.load_state_dict(own.state_dict())
    image = torch.rand(1, 3, 65, 97)
    with torch.no_grad():
        for a, b in zip(own(image), other(image), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    # open-mmlab's resnet50_v1c.pth numbers the stem's layers consecutively.
    published = {
        name.replace("conv1.", "stem.", 1)
        if name.startswith("conv1.")
        else name.replace("bn1.", "stem.7.", 1)
        if name.startswith("bn1.")
        else name: tensor
        for name, tensor in own.state_dict().items()
    }
    torch.save({"state_dict": {**published, "fc.weight": torch.zeros(1000, 2048)}}, tmp_path / "w.pth")
    loaded = ResNetEncoder(50, stem="deep")
    load_encoder_weights(loaded, tmp_path / "w.pth")
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), own.parameters(), strict=True))


def test_strides_and_dilations_are_those_of_deeplab_v2():
    net = ResNetEncoder(101, stem="deep")
    dilations = [[block.conv2.dilation[0] for block in getattr(net, f"layer{i}")] for i in (1, 2, 3, 4)]
    assert dilations == [[1] * 3, [1] * 4, [1] + [2] * 22, [2, 4, 4]]
    strides = [getattr(net, f"layer{i}")[0].conv2.stride[0] for i in (1, 2, 3, 4)]
    assert strides == [1, 2, 1, 1]


@pytest.mark.parametrize(
    ("keywords", "words"),
    [({"stem": "steep"}, "choose one of plain, deep"), ({"stem": "deep", "pretrained": True}, "no weights for a deep")],
)
def test_a_stem_without_weights_or_name_is_an_error(keywords, words):
    with pytest.raises(ValueError, match=words):
        ResNetEncoder(50, **keywords)
