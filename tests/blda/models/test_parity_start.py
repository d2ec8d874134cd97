"""Initialisation: every layer has the published standard deviation, by the rules of mmcv and the SegFormer authors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from blda.build.network_factory import HEADS, network
from blda.config.schema import Hrda, Model
from blda.models.segmenter import Segmenter

MIT = {"name": "mit", "variant": [[32, 64, 160, 256], [1, 1, 1, 1]]}
DAFORMER, DEEPLAB = {"name": "daformer", "embed": 256}, {"name": "deeplab_v2", "dilations": [6, 12]}
NETWORKS = {
    "daformer": Model(MIT, DAFORMER),
    "hrda": Model(MIT, DAFORMER, Hrda(detail=(64, 64))),
    "segformer": Model(MIT, {"name": "segformer", "embed": 256}),
    "dacs": Model({"name": "resnet", "depth": 50, "stem": "deep"}, DEEPLAB),
    "hrda dacs": Model({"name": "resnet", "depth": 50, "stem": "deep"}, DEEPLAB, Hrda(DEEPLAB, (64, 64))),
}


@pytest.fixture(scope="module", params=NETWORKS)
def built(request) -> nn.Module:
    torch.manual_seed(0)
    return network(NETWORKS[request.param], 19, False, HEADS, Segmenter)


def kaiming(conv: nn.Conv2d) -> float:
    """Return the deviation of mmcv's kaiming_init (normal, fan_out, ReLU), whose fan out counts all output channels."""
    return math.sqrt(2 / (conv.out_channels * math.prod(conv.kernel_size)))


def expected(name: str, module: nn.Module) -> float:
    """Return the published standard deviation of a layer's weight."""
    if name.startswith("encoder."):
        if isinstance(module, nn.Linear):
            return 0.02  # truncated at 2, a hundred standard deviations away
        transformer = any(word in name for word in ("patch_embed", "attn.sr", "dwconv"))
        return kaiming(module) * (math.sqrt(module.groups) if transformer else 1)  # SegFormer counts one group
    if ".embed." in name:  # mmcv keeps the initialisation of nn.Linear
        return 1 / math.sqrt(3 * module.in_channels)
    if name.endswith("classifier") or ".classifiers." in name:
        return 0.01
    return kaiming(module)


def test_initial_weights_have_their_published_deviation(built):
    layers = {name: m for name, m in built.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    assert len(layers) > 20
    for name, layer in layers.items():
        weight = layer.weight.detach()
        error = 5 / math.sqrt(2 * weight.numel())  # five standard deviations of the estimate
        assert weight.std().item() == pytest.approx(expected(name, layer), rel=error + 1e-3), name
        assert abs(weight.mean()) < 5 * weight.std() / math.sqrt(weight.numel()), name


def test_initial_biases_are_zero_except_embeddings_and_norms_are_one(built):
    for name, module in built.named_modules():
        if isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
            assert bool((module.weight == 1).all() and (module.bias == 0).all()), name
        elif isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            if ".embed." in name:
                limit = 1 / math.sqrt(module.in_channels)
                assert 0.8 * limit < module.bias.abs().max() <= limit, name
            else:
                assert not module.bias.any(), name


def test_depthwise_filters_of_the_head_have_the_recorded_deviation():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        head = HEADS["daformer"](channels=(64, 128, 320, 512), num_classes=19, embed=256)
    filters: list[Tensor] = [m.weight for m in head.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert [tuple(one.shape) for one in filters] == [(1024, 1, 3, 3)] * 3
    assert all(one.std().item() == pytest.approx(0.0147, rel=0.03) for one in filters)
