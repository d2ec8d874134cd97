"""Plain ViTs with a pyramid: any size, aligned with the image, weights in their published names, clear errors."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from blda.engine.optim import adamw
from blda.models.encoders.vit_pyramid import SimplePyramid, ViTPyramid
from blda.models.heads.segformer import SegFormerHead
from blda.models.segmenter import Segmenter

TINY, DINOV2, DINOV3 = "vit_tiny_patch16_224", "vit_small_patch14_dinov2", "vit_small_patch16_dinov3"


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("model", "size", "grid"),
    [(DINOV2, (56, 84), (4, 6)), (DINOV2, (57, 71), (5, 6)), (DINOV3, (64, 96), (4, 6)), (DINOV3, (5, 33), (1, 3))],
)
def test_levels_are_multiples_of_the_grid_of_patches(model, size, grid):
    encoder = ViTPyramid(model, width=16).eval()
    with torch.no_grad():
        levels = encoder(torch.rand(2, 3, *size))
    height, width = grid
    expected = [(4 * height, 4 * width), (2 * height, 2 * width), grid, (-(-height // 2), -(-width // 2))]
    assert [tuple(level.shape) for level in levels] == [(2, 16, *size) for size in expected]
    assert encoder.channels == (16,) * 4


def test_maps_are_the_vits_of_an_image_resized_to_whole_patches():
    encoder = ViTPyramid(DINOV2, width=16).eval()
    image = torch.rand(1, 3, 57, 71)
    maps = []
    encoder.pyramid.register_forward_hook(lambda module, arguments, levels: maps.extend(arguments[0]))
    with torch.no_grad():
        encoder(image)
        whole = F.interpolate(image, size=(70, 84), mode="bilinear", align_corners=False)
        tokens = encoder.net.forward_features(whole)[:, encoder.net.num_prefix_tokens :]
    torch.testing.assert_close(maps[0].flatten(2).mT, tokens)


@pytest.mark.parametrize(
    ("model", "size"), [(DINOV2, (56, 84)), (DINOV2, (57, 71)), (DINOV3, (64, 96)), (DINOV3, (5, 33))]
)
def test_the_prior_is_added_to_every_level_at_its_size(model, size):
    encoder = ViTPyramid(model, width=16, spatial_prior=True).eval()
    image = torch.rand(2, 3, *size)
    details = []
    encoder.prior.register_forward_hook(lambda module, arguments, levels: details.extend(levels))
    with torch.no_grad():
        levels, plain = encoder(image), encoder.pyramid(encoder._maps(image))
    assert [level.shape for level in levels] == [level.shape for level in plain] == [level.shape for level in details]
    for level, one, detail in zip(levels, plain, details, strict=True):
        torch.testing.assert_close(level, one + detail)


def test_the_prior_sees_details_finer_than_a_patch_at_their_place():
    encoder = ViTPyramid(TINY, width=16, spatial_prior=True).eval()
    image = torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        before = encoder.prior(image)[0]
        image[..., 20:22, 40:42] = 1
        changed = (encoder.prior(image)[0] - before).abs().sum(1)[0]
    rows, columns = changed.gt(1e-6).nonzero(as_tuple=True)
    assert changed[5, 10] > 1e-6, "stride 4: (20, 40) of the image"
    assert rows.min() >= 3 and rows.max() <= 8 and columns.min() >= 8 and columns.max() <= 13, "and little around it"


@pytest.mark.parametrize(
    ("model", "blocks", "prior"),
    [(TINY, None, False), (TINY, [2, 5, 8, 11], True), (DINOV3, None, False)],
)
def test_every_parameter_gets_a_gradient(model, blocks, prior):
    encoder = ViTPyramid(model, width=8, blocks=blocks, spatial_prior=prior)
    net = Segmenter(encoder, SegFormerHead(encoder.channels, 3, embed=8), encoder.mean, encoder.std).train()
    logits = net(torch.rand(2, 3, 40, 50))
    assert logits.shape == (2, 3, 40, 50)
    F.cross_entropy(logits, torch.randint(0, 3, (2, 40, 50))).backward()
    without = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


def test_each_level_can_come_from_its_own_block():
    pyramid = SimplePyramid(16, 8)
    maps = [torch.rand(1, 16, 3, 4) for _ in range(4)]
    shared = [pyramid([one])[level] for level, one in enumerate(maps)]
    assert all(torch.equal(a, b) for a, b in zip(pyramid(maps), shared, strict=True))


def test_pyramid_and_prior_learn_as_fast_as_a_head():
    encoder = ViTPyramid(TINY, width=8, spatial_prior=True)
    net = Segmenter(encoder, SegFormerHead(encoder.channels, 3, embed=8))
    rates = {id(p): group["lr"] for group in adamw(net, 1e-4, 10, 0.01).param_groups for p in group["params"]}
    fast = {name.split(".")[1] for name, p in net.named_parameters() if rates[id(p)] == pytest.approx(1e-3)}
    slow = {name.split(".")[1] for name, p in net.named_parameters() if rates[id(p)] == pytest.approx(1e-4)}
    assert {"pyramid", "prior"} <= fast
    assert slow == {"net"}


@pytest.mark.parametrize("model", [TINY, DINOV3])
def test_timm_weights_load(tmp_path, model):
    whole = timm.create_model(model)
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    encoder = ViTPyramid(model, width=8, weights=tmp_path / "w.pth")
    stored = whole.state_dict()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in encoder.net.state_dict().items())


def test_metas_dinov2_names_load(tmp_path):
    own = ViTPyramid(DINOV2, width=8).net.state_dict()
    torch.save({**own, "mask_token": torch.zeros(1, 384)}, tmp_path / "w.pth")
    loaded = ViTPyramid(DINOV2, width=8, weights=tmp_path / "w.pth").net.state_dict()
    assert all(torch.equal(loaded[name], own[name]) for name in own)


def test_metas_dinov3_names_load(tmp_path):
    own = ViTPyramid(DINOV3, width=8).net.state_dict()
    names = {"reg_token": "storage_tokens", ".gamma_1": ".ls1.gamma", ".gamma_2": ".ls2.gamma"}
    state = {}
    for name, tensor in own.items():
        for timms, metas in names.items():
            name = name.replace(timms, metas)
        state[name] = tensor
    state |= {"mask_token": torch.zeros(1, 384), "rope_embed.periods": torch.zeros(16)}
    state |= {f"blocks.{i}.attn.qkv.bias": torch.zeros(3 * 384) for i in range(12)}
    torch.save(state, tmp_path / "w.pth")
    loaded = ViTPyramid(DINOV3, width=8, weights=tmp_path / "w.pth").net.state_dict()
    assert all(torch.equal(loaded[name], own[name]) for name in own)


def test_weights_of_another_network_are_refused(tmp_path):
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "w.pth")
    for model in (TINY, DINOV3):
        with pytest.raises(ValueError, match=rf"not those of {model}.*missing: .*unexpected: "):
            ViTPyramid(model, weights=tmp_path / "w.pth")
    torch.save(timm.create_model(DINOV2).state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"not those of vit_tiny_patch16_224"):
        ViTPyramid(TINY, weights=tmp_path / "w.pth")


def test_a_failed_download_names_the_fix(monkeypatch):
    def offline(*args: object, **keys: object) -> nn.Module:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(FileNotFoundError, match=r"no route to host.*model\.encoder\.weights=PATH"):
        ViTPyramid(DINOV3, pretrained=True)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ViTPyramid("vit_smal_patch14_dinov2"), "choose vit_small_patch14_dinov2"),
        (lambda: ViTPyramid("resnet18"), "resnet18' is no plain ViT"),
        (lambda: ViTPyramid("swin_tiny_patch4_window7_224"), "swin_tiny_patch4_window7_224' is no plain ViT"),
        (lambda: ViTPyramid(TINY, blocks=[2, 5, 8]), "4 ascending numbers that end with its last block, 11"),
        (lambda: ViTPyramid(TINY, blocks=[2, 5, 8, 10]), "4 ascending numbers that end with its last block, 11"),
    ],
)
def test_unfit_choices_name_the_fix(make, words):
    with pytest.raises(ValueError, match=words):
        make()
