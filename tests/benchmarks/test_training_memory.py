"""The estimate of a GPU's memory: how it counts, what makes it larger, and what smaller."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
import training_memory
from blda.config.schema import Config

VIT = (
    "model.encoder={name: vit_pyramid, model: vit_tiny_patch16_224, width: 8}",
    "model.head={name: segformer, embed: 8}",
)
MIB = 2**20


def _config(*overrides: str) -> Config:
    crops = ("source.crop=[128, 128]", "target.crop=[128, 128]")
    return tiny.load(Path("nowhere"), Path("nowhere"), "image", *VIT, *crops, *overrides)


def _mib(config: Config) -> float:
    return 1024 * training_memory.estimate(config, 2)["GiB"]


def test_live_bytes_are_those_of_tensors_that_nothing_has_freed():
    with training_memory.FakeTensorMode(), training_memory.LiveBytes() as live:
        kept = torch.zeros(MIB)
        view, half = kept[1:], torch.ones(MIB, dtype=torch.bfloat16)
        assert live.now == live.peak == 6 * MIB, "a view is no memory of its own"
        del half
        assert (live.now, live.peak) == (4 * MIB, 6 * MIB)
        del kept
        assert live.now == 4 * MIB, "the view keeps it"
        del view
        assert live.now == 0


def test_a_frozen_network_takes_more_and_checkpointing_less():
    plain = _mib(_config())
    assert plain > _mib(_config("training.checkpointing=true"))
    distance = "foundation_distance={encoder: {name: vit_pyramid, model: vit_tiny_patch16_224, pretrained: true}}"
    report = training_memory.estimate(_config(distance), 2)
    assert 1024 * report["GiB"] > plain
    # Weights, their moving average, two moments of AdamW, and the frozen network.
    assert 1024 * report["weights_GiB"] == pytest.approx(5 * 4 * report["parameters_M"] * 1e6 / MIB, rel=0.5)
