"""Masked consistency and feature distance on two real processes, on the smallest run of test_contracts.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from blda.engine import checkpoint
from blda.models.mit import MiT
from test_contracts import (
    DENSITY,
    _assert_close,
    _config,
    _differences,
    _on_two_processes,
    _states,
    _trainer,
    _with_sgd,
)
from test_contracts import worlds as worlds  # the fixture


def _options(tmp_path: Path, mode: str) -> list[str]:
    torch.manual_seed(0)
    torch.save(MiT("b0").state_dict(), tmp_path / "mit_b0.pth")
    return [
        f"model.encoder={{name: mit, variant: b0, drop_path: 0.0, weights: {tmp_path / 'mit_b0.pth'}}}",
        "model.head.dropout=0.0",
        "optimizer.clip=null",
        "training.steps=2",
        *(f"{part}={{resize: [64, 128], crop: [64, 96]}}" for part in ("source", "target")),
        "self_training={masked: {block: 8, ratio: 0.5}, margins: [4, 12, 6, 6]}",
        "feature_distance={strength: 0.1, min_ratio: 0.51, things: [road, building, sky, vegetation, car]}",
        *([DENSITY] if mode == "image" else []),
    ]


def _moved(worlds: Path, tmp_path: Path, mode: str, options: list[str]) -> Path:
    """A network to start from that is away from the pretrained one: at it, a distance has the direction of rounding."""
    trainer = _trainer(_config(worlds, tmp_path, mode, *options), "start")
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.student.encoder.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=noise))
    checkpoint.save(tmp_path / "start.pt", {"student": trainer.student})
    return tmp_path / "start.pt"


@pytest.mark.parametrize("mode", ["image", "video"])
def test_two_processes_equal_one_with_masks_margins_and_feature_distance(worlds, tmp_path, mode):
    options = _options(tmp_path, mode)
    options.append(f"model.weights={_moved(worlds, tmp_path, mode, options)}")
    single = _with_sgd(_trainer(_config(worlds, tmp_path, mode, *options), "single"))
    scores = single.fit()
    ranks = _on_two_processes(tmp_path, mode, "training.batch=1", *options)
    assert _differences(ranks[0]["states"], ranks[1]["states"]) == []
    _assert_close(ranks[0]["states"], _states(single))
    assert ranks[0]["scores"]["mIoU"] == pytest.approx(scores["mIoU"], abs=0.5)
    assert single.method.numbers()["feature_distance"] > 0
