"""Layer-wise learning-rate decay: the formula in every encoder that has an order, and an error where it has none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tiny
from blda.build.network_factory import ENCODERS, HEADS, network
from blda.config.components import construct
from blda.config.schema import Model, Optimizer
from blda.engine import optim
from blda.models.layer_decay import layer_factors
from blda.models.segmenter import Segmenter

DECAY, LR, HEAD_FACTOR = 0.9, 1e-4, 10.0
VIT = {"name": "vit_pyramid", "model": "vit_tiny_patch16_224", "width": 16, "spatial_prior": True}
LAYERS = {
    # Encoder -> (first parameters of a name, its layer), and the number of the last layer.
    "vit": (VIT, 12, [("net.pos_embed", 0), ("net.patch_embed", 0), ("net.blocks.0.", 1), ("net.blocks.11.", 12)]),
    "mit": (
        {"name": "mit", "variant": "b0"},
        8,
        [("patch_embed1", 0), ("block1.0", 1), ("norm1", 2), ("patch_embed2", 2), ("block2.0", 3), ("norm4", 8)],
    ),
    "resnet": ({"name": "resnet", "depth": 50}, 16, [("conv1", 0), ("layer1.0", 1), ("layer2.0", 4), ("layer4.2", 16)]),
    "timm": (
        {"name": "timm", "model": "tf_efficientnet_lite0"},
        16,
        [("net.conv_stem", 0), ("net.blocks.0.0", 1), ("net.blocks.1.0", 2), ("net.blocks.6.0", 16)],
    ),
    "dinov3": (
        {"name": "vit_pyramid", "model": "vit_small_patch16_dinov3", "width": 16},
        12,
        [("net.cls_token", 0), ("net.reg_token", 0), ("net.blocks.0.", 1), ("net.norm", 12)],
    ),
}


def _network(encoder: dict) -> nn.Module:
    with torch.device("meta"):
        return network(Model(encoder, {"name": "segformer", "embed": 16}), 5, False, HEADS, Segmenter)


def _rates(net: nn.Module, decay: float) -> dict[str, float]:
    factors = layer_factors(net.encoder, decay, lambda name: optim.in_head(f"encoder.{name}"))
    groups = optim.adamw(net, LR, HEAD_FACTOR, 0.01, factors=factors).param_groups
    rates = {parameter: group["peak"] for group in groups for parameter in group["params"]}
    return {name: rates[parameter] for name, parameter in net.named_parameters()}


@pytest.mark.parametrize("name", LAYERS)
def test_rates_follow_the_formula(name):
    encoder, depth, expected = LAYERS[name]
    rates = _rates(_network(encoder), DECAY)
    for start, layer in expected:
        found = [rate for key, rate in rates.items() if key.startswith(f"encoder.{start}")]
        assert found, start
        assert found == pytest.approx([LR * DECAY ** (depth - layer)] * len(found), rel=1e-12), start
    of_layers = {rate for key, rate in rates.items() if not optim.in_head(key)}
    assert sorted(of_layers) == pytest.approx([LR * DECAY ** (depth - i) for i in range(depth + 1)], rel=1e-12)
    heads = {rate for key, rate in rates.items() if optim.in_head(key)}
    assert heads == {LR * HEAD_FACTOR}, "heads, pyramid and prior are untouched"


def test_a_decay_of_one_gives_the_groups_of_no_decay():
    net = _network(VIT)
    plain = optim.adamw(net, LR, HEAD_FACTOR, 0.01).param_groups
    ones = optim.adamw(net, LR, HEAD_FACTOR, 0.01, factors=layer_factors(net.encoder, 1.0)).param_groups
    for one, other in zip(plain, ones, strict=True):
        assert [id(parameter) for parameter in one["params"]] == [id(parameter) for parameter in other["params"]]
        assert (one["peak"], one["weight_decay"]) == (other["peak"], other["weight_decay"])


def test_the_logged_rate_is_that_of_the_last_layer():
    net = _network(VIT)
    assert optim.adamw(net, LR, 10.0, 0.01, factors=layer_factors(net.encoder, 0.5)).param_groups[0]["lr"] == LR


def test_layers_in_no_list_are_refused():
    with torch.device("meta"):
        encoder = construct("model.encoder", {"name": "timm", "model": "vgg11"}, ENCODERS)
    with pytest.raises(ValueError, match=r"TimmEncoder are in no list .* set optimizer\.layer_decay=1"):
        layer_factors(encoder, DECAY)


def test_a_run_with_decay_resumes_bit_for_bit_and_keeps_the_configs_rates(worlds, tmp_path):
    config = tiny.load(worlds, tmp_path, "image", "optimizer.layer_decay=0.5", "optimizer.no_decay=norms")
    whole = tiny.trainer(config, "whole")
    whole.fit()
    resumed = tiny.resumed(config)
    assert tiny.differences(tiny.states(whole), tiny.states(resumed)) == []
    # Three residual blocks; heads at twice the rate of the last one.
    peaks = sorted({group["peak"] for group in resumed.optimizer.param_groups})
    assert peaks == pytest.approx([1e-2 * factor for factor in (0.125, 0.25, 0.5, 1, 2)])
    changed = tiny.trainer(tiny.load(worlds, tmp_path, "image", "optimizer.layer_decay=0.8"), "split")
    changed.resume()
    assert min(group["peak"] for group in changed.optimizer.param_groups) == pytest.approx(1e-2 * 0.8**3)


@pytest.mark.parametrize("decay", ["0", "1.1", "-0.5"])
def test_a_decay_out_of_range_is_an_error(worlds, tmp_path, decay):
    with pytest.raises(ValueError, match=r"optimizer: layer_decay is .*above 0 and at most 1"):
        tiny.load(worlds, tmp_path, "image", f"optimizer.layer_decay={decay}")
    assert Optimizer().layer_decay == 1
