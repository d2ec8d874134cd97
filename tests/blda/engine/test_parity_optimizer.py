"""Parameter groups are the published ones, name by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from blda.build.network_factory import HEADS, network
from blda.config import loading
from blda.config.schema import Config, Hrda, Model, Optimizer
from blda.engine import optim
from blda.models.segmenter import Segmenter
from blda.models.weights.external_checkpoint import segmenter_names

TINY = {"name": "mit", "variant": [[8, 16, 40, 64], [1, 2, 1, 1]]}
HEAD = {"name": "daformer", "embed": 16}
DEEPLAB = {"name": "deeplab_v2", "dilations": [6, 12]}
NETWORKS = {
    "daformer": Model(TINY, HEAD),
    "hrda": Model(TINY, HEAD, Hrda({"name": "segformer", "embed": 16}, (32, 32))),
    "dacs_r50v1c": Model({"name": "resnet", "depth": 50, "stem": "deep"}, DEEPLAB),
}


def settings(net: nn.Module, exempt: optim.Exempt) -> dict[str, tuple[float, float]]:
    """Parameter name -> (rate, weight decay)."""
    groups = optim.adamw(net, 6e-5, 10.0, 0.01, exempt).param_groups
    by_parameter = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    return {name: by_parameter[id(parameter)] for name, parameter in net.named_parameters()}


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_are_the_published_ones(shared, name):
    recorded = json.loads((shared / "golden" / "groups.json").read_text())[name]
    numbers = segmenter_names({key: torch.tensor(i) for i, key in enumerate(recorded)})
    expected = {own: tuple(list(recorded.values())[number]) for own, number in numbers.items()}
    with torch.device("meta"):
        net = network(NETWORKS[name], 19, False, HEADS, Segmenter)
    own = settings(net, optim.is_encoder_layer_norm)
    assert own.keys() == expected.keys()
    assert {key: pair[1] for key, pair in own.items()} == {key: pair[1] for key, pair in expected.items()}
    assert {key: pair[0] for key, pair in own.items()} == pytest.approx({k: pair[0] for k, pair in expected.items()})


class Both(nn.Module):
    """A network with norms of every kind in encoder and head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"norm": nn.LayerNorm(4), "bn": nn.BatchNorm2d(4), "conv": nn.Conv2d(4, 4, 1)})
        self.head = nn.ModuleDict({"norm": nn.LayerNorm(4), "bn": nn.BatchNorm2d(4), "conv": nn.Conv2d(4, 4, 1)})
        self.attention = nn.ModuleDict({"bn": nn.BatchNorm2d(4)})


@pytest.mark.parametrize(
    ("exempt", "still"),
    [
        (optim.is_norm, {"encoder.norm", "encoder.bn", "head.norm", "head.bn", "attention.bn"}),
        (optim.is_encoder_layer_norm, {"encoder.norm"}),
    ],
)
def test_what_does_not_decay(exempt, still):
    found = settings(Both(), exempt)
    assert {name.rpartition(".")[0] for name, (_, decay) in found.items() if decay == 0} == still
    assert {name.split(".")[0] for name, (rate, _) in found.items() if rate == pytest.approx(6e-4)} == {
        "head",
        "attention",
    }


def test_a_state_saved_under_one_rule_loads_under_the_other():
    """An earlier version knew one rule; a benchmark's run that it began goes on with the published one."""
    net = network(NETWORKS["daformer"], 19, False, HEADS, Segmenter)
    old, new = (optim.adamw(net, 6e-5, 10.0, 0.01, rule) for rule in (optim.is_norm, optim.is_encoder_layer_norm))
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter)
    old.step()
    new.load_state_dict(old.state_dict())
    for parameter in net.parameters():
        assert torch.equal(old.state[parameter]["exp_avg"], new.state[parameter]["exp_avg"])


def test_full_size_configs_decay_as_published_and_own_data_does_not():
    configs = Path(__file__).parents[3] / "configs"
    assert loading.load(configs / "gta2cs.yaml", Config, []).optimizer.no_decay == "encoder_layer_norms"
    assert Optimizer().no_decay == "norms"
    with pytest.raises(ValueError, match=r"optimizer\.no_decay is 'bn'; use norms or encoder_layer_norms"):
        Optimizer(no_decay="bn")
