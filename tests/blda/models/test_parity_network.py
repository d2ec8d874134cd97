"""Networks with recorded weights: logits, losses and gradients of the published code on the same images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from blda.balance.cross_entropy import cross_entropy
from blda.build.network_factory import HEADS, network
from blda.config.schema import Hrda, Model
from blda.data.batches import Mixed, PseudoLabels
from blda.models.segmenter import Segmenter
from blda.models.sliding_window import Window
from blda.models.test_time_augmentation import Sliding
from blda.models.weights.external_checkpoint import ExternalCheckpoint, segmenter_names
from blda.selftraining.criterion import PlainLoss
from blda.selftraining.hrda_detail_loss import HRDADetailLoss
from blda.selftraining.teacher import Teacher

MIT = {"name": "mit", "variant": [[8, 16, 40, 64], [1, 2, 1, 1]], "drop_path": 0.0}
HEAD = {"name": "daformer", "embed": 16, "dropout": 0.0}
DAFORMER = Model(MIT, HEAD)
HRDA = Model(MIT, HEAD, Hrda({"name": "segformer", "embed": 16, "dropout": 0.0}, (32, 32)))

Golden = dict[str, Tensor]


def golden(shared: Path, name: str) -> Golden:
    with np.load(shared / "golden" / f"{name}.npz") as file:
        return {key: torch.as_tensor(file[key]) for key in file.files}


def built(model: Model, recorded: Golden) -> nn.Module:
    net = network(model, 19, False, HEADS, Segmenter)
    weights = {name.removeprefix("w/"): tensor for name, tensor in recorded.items() if name.startswith("w/")}
    ExternalCheckpoint(Path("recorded"), weights, None, None).fill(net, "model", tuple(map(str, range(19))))
    return net


@pytest.fixture
def daformer(shared) -> tuple[nn.Module, Golden]:
    recorded = golden(shared, "daformer_tiny")
    return built(DAFORMER, recorded), recorded


@pytest.fixture
def hrda(shared) -> tuple[nn.Module, Golden]:
    recorded = golden(shared, "hrda_tiny")
    net = built(HRDA, recorded)
    window = Window(*recorded["window"].tolist())
    net.draw_window = lambda padded: window
    return net, recorded


def image(recorded: Golden, name: str = "image") -> Tensor:
    return recorded[name].float() / 255


def close(own: Tensor, recorded: Tensor) -> None:
    torch.testing.assert_close(own, recorded, atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["daformer", "hrda"])
def test_logits_of_evaluation_and_teacher_are_the_recorded_ones(kind, request):
    net, recorded = request.getfixturevalue(kind)
    close(net.eval()(image(recorded)), recorded["logits_eval"])
    close(Teacher(net)(image(recorded)), recorded["logits_bn_batch"])


@torch.no_grad()
def test_sliding_inference_gives_the_recorded_logits(hrda):
    net, recorded = hrda
    slide = Sliding(net.eval(), (64, 64), (32, 32), 4)
    close(slide(image(recorded, "wide")), recorded["slide"])


def test_loss_and_gradients_of_daformer_are_the_recorded_ones(daformer):
    net, recorded = daformer
    loss = cross_entropy(net.train()(image(recorded)), recorded["label"].long(), recorded["weight"])
    assert loss.item() == pytest.approx(recorded["loss"].item(), rel=1e-5)
    loss.backward()
    expected = segmenter_names({k.removeprefix("g/"): t for k, t in recorded.items() if k.startswith("g/")})
    own = {name: parameter.grad for name, parameter in net.named_parameters()}
    assert len(expected) > 100
    assert expected.keys() <= own.keys()
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(own[name], gradient, atol=1e-5 * largest, rtol=1e-3, msg=name)


def _mixed(recorded: Golden) -> tuple[Mixed, PseudoLabels]:
    label, weight = recorded["label"].long(), recorded["weight"]
    return Mixed(image(recorded), label, weight, weight == 1), PseudoLabels(label, weight)


def test_fused_and_detail_loss_of_hrda_are_the_recorded_ones(hrda):
    net, recorded = hrda
    output, (mixed, pseudo) = net.train()(image(recorded)), _mixed(recorded)

    class Silent(PlainLoss):
        """A loss of zero, so that the other loss is measured alone."""

        def mixed_loss(self, output, mixed, pseudo):
            return 0 * super().mixed_loss(output, mixed, pseudo)

    criteria = {
        "loss_fused": HRDADetailLoss(PlainLoss(), Silent(), 0.1),
        "loss_detail": HRDADetailLoss(Silent(), PlainLoss(), 0.1),
    }
    for name, criterion in criteria.items():
        assert criterion.mixed_loss(output, mixed, pseudo).item() == pytest.approx(recorded[name].item(), rel=1e-5), (
            name
        )
