"""The example of a plain PyTorch loop learns, and continues from a checkpoint bit for bit."""

from __future__ import annotations

import runpy
from pathlib import Path

import torch

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "plain_pytorch.py"))


def score(checkpoint: dict) -> float:
    model = EXAMPLE["network"]()
    model.load_state_dict(checkpoint["student"])
    return EXAMPLE["iou"](model).mean().item()


def test_the_loop_learns_the_target() -> None:
    before, after = EXAMPLE["train"](0), EXAMPLE["train"](70, burn_in=40)
    assert score(before) < 0.2
    assert score(after) > 0.5
    assert after["balanced"]["source_statistics.updates"] == 70
    assert after["balanced"]["target_statistics.updates"] == 30


def test_a_resumed_loop_equals_one_that_never_stopped(tmp_path: Path) -> None:
    whole = EXAMPLE["train"](8, burn_in=2)
    torch.save(EXAMPLE["train"](4, burn_in=2), tmp_path / "checkpoint.pt")
    resumed = EXAMPLE["train"](8, burn_in=2, resume=torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    for part in ("student", "teacher", "balanced"):
        assert all(torch.equal(resumed[part][name], value) for name, value in whole[part].items()), part


def test_it_is_under_a_hundred_lines() -> None:
    text = (Path(__file__).parents[2] / "examples" / "plain_pytorch.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 100
