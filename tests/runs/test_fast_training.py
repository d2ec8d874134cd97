"""Options for faster or smaller training change neither what is computed nor what is saved."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import tiny
from blda.build.image_run import image_run
from blda.engine import checkpoint, optim, runtime
from blda.engine.trainer import Trainer
from blda.models.activation_checkpointing import blocks, checkpoint_activations
from blda.models.encoders.mit import MiT
from blda.models.encoders.small import SmallEncoder
from blda.models.encoders.timm_encoder import TimmEncoder
from blda.models.heads.daformer import DAFormerHead
from blda.models.segmenter import Segmenter
from synthetic import synthetic

NOWHERE = Path("nowhere")


def _trainer(run: Path, *overrides: str) -> Trainer:
    config = tiny.load(NOWHERE, run, "image", *tiny.BATCH_NORM, "optimizer.lr=1e-3", *overrides)
    return synthetic(image_run)(config, runtime.start("no")).trainer(config.method, run)


def _student(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.student.state_dict().items()}


ENCODERS = {
    "mit": lambda: MiT("b0"),
    "small": lambda: SmallEncoder((8, 8, 8, 8)),
    "timm": lambda: TimmEncoder("tf_efficientnet_lite0"),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_recomputed_blocks_give_the_same_gradients_buffers_and_names(name):
    torch.manual_seed(0)
    encoder = ENCODERS[name]()
    plain = Segmenter(encoder, DAFormerHead(encoder.channels, 4, 8))
    recomputed = copy.deepcopy(plain)
    checkpoint_activations(recomputed)
    copied = copy.deepcopy(recomputed)
    image = torch.rand(2, 3, 64, 64)
    losses = []
    for network in (plain, recomputed, copied):
        torch.manual_seed(1)  # of dropout and drop-path
        losses.append(network(image).square().mean())
        losses[-1].backward()
    assert losses[0] == losses[1] == losses[2]
    for network in (recomputed, copied):
        assert network.state_dict().keys() == plain.state_dict().keys()
        for a, b in zip(plain.parameters(), network.parameters(), strict=True):
            assert torch.equal(a.grad, b.grad)
        for a, b in zip(plain.buffers(), network.buffers(), strict=True):
            assert torch.equal(a, b)
    assert next(blocks(copied)).forward.args[0].__self__ is next(blocks(copied))


def test_recomputed_blocks_keep_less():
    def kept(network: nn.Module) -> int:
        total = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            network(torch.rand(1, 3, 64, 64))
        return total

    plain = MiT("b0")
    recomputed = copy.deepcopy(plain)
    checkpoint_activations(recomputed)
    assert kept(nn.Sequential(recomputed)) < kept(nn.Sequential(plain)) / 2


def test_a_network_without_blocks_is_an_error():
    with pytest.raises(ValueError, match=r"training.checkpointing"):
        checkpoint_activations(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()))


def test_training_with_recomputed_blocks_is_the_same_bit_for_bit(tmp_path):
    plain, recomputed = _trainer(tmp_path / "a"), _trainer(tmp_path / "b", "training.checkpointing=true")
    plain.fit(until=2)
    recomputed.fit(until=2)
    first, second = _student(plain), _student(recomputed)
    assert all(torch.equal(first[name], second[name]) for name in first.keys() | second.keys())


def test_channels_last_reaches_the_weights_and_resumes_exactly(tmp_path):
    options = ("training.channels_last=true",)
    whole = _trainer(tmp_path / "whole", *options)
    assert whole.student.encoder.stages[1][0][0].weight.is_contiguous(memory_format=torch.channels_last)
    assert whole.method.teacher.model.encoder.stages[1][0][0].weight.is_contiguous(memory_format=torch.channels_last)
    whole.fit(until=3)
    _trainer(tmp_path / "split", *options).fit(until=2)
    resumed = _trainer(tmp_path / "split", *options)
    resumed.resume()
    resumed.fit(until=3)
    first, second = _student(whole), _student(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)
    plain = _trainer(tmp_path / "plain")
    plain.fit(until=1)
    other = _trainer(tmp_path / "other", *options)
    other.fit(until=1)
    torch.testing.assert_close(_student(other), _student(plain), atol=1e-4, rtol=1e-3)


def test_a_compiled_run_keeps_its_names_and_results(tmp_path, monkeypatch):
    # Dynamo without a code generator: exact, and quick.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    plain = _trainer(tmp_path / "a", "method=source_only")
    compiled = _trainer(tmp_path / "b", "method=source_only", "training.compile=true")
    plain.fit(until=1)
    compiled.fit(until=1)
    assert type(compiled.method.student).__name__ == "OptimizedModule"
    first, second = (checkpoint.read(checkpoint.latest(tmp_path / name)) for name in "ab")
    assert first.keys() == second.keys()
    torch.testing.assert_close(second["student"], first["student"], atol=1e-4, rtol=1e-3)
    resumed = _trainer(tmp_path / "b", "method=source_only")
    resumed.resume()
    assert resumed.step == 1


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_fused_optimizer_steps_as_the_plain_one(layout):
    torch.manual_seed(0)
    network = SmallEncoder((8, 8, 8, 8)).to(memory_format=layout)
    other = copy.deepcopy(network)
    fused, plain = (optim.adamw(each, 1e-2, 10, 0.01) for each in (network, other))
    for group in plain.param_groups:
        group["fused"] = False
    assert all(group["fused"] for group in fused.param_groups)
    for _ in range(3):
        for a, b in zip(network.parameters(), other.parameters(), strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        fused.step()
        plain.step()
    for a, b in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
