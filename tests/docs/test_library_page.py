"""The Python of docs/library.md runs as it stands there, block after block."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import nn

from pages import ROOT, blocks

PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")


@pytest.fixture
def yours(tmp_path: Path, monkeypatch) -> dict[str, object]:
    """Objects that the page calls the reader's: network, teacher, optimizer and batches; one process of several."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # the default takes a minute
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    student = nn.Conv2d(3, 19, 1)
    batches = [(torch.rand(2, 3, 64, 64), torch.randint(0, 19, (2, 64, 64)), torch.rand(2, 3, 64, 64))] * 2
    yield {
        "student": student,
        "teacher": copy.deepcopy(student).requires_grad_(False),
        "optimizer": torch.optim.AdamW(student.parameters(), 1e-3),
        "loader": batches,
        "device": "cpu",
    }
    dist.destroy_process_group()
    torch.compiler.reset()


def test_the_blocks_run_one_after_the_other(yours) -> None:
    codes = blocks(PAGE, "python")
    names, updates = dict(yours), []
    for number, code in enumerate(codes):
        exec(compile(code, f"docs/library.md, block {number}", "exec"), names)
        balanced = names["balanced"]
        updates.append((int(balanced.source_statistics.updates), int(balanced.target_statistics.updates)))
    assert updates == [(2, 2), (2, 3), (2, 3), (2, 3), (3, 4), (3, 4), (4, 4), (5, 4)]
    assert names["balanced"].source_statistics.estimated.all()
    assert names["loss"].isfinite()
    assert names["student"].weight.grad.isfinite().all()


def test_the_loop_has_ten_lines() -> None:
    _, loop = blocks(PAGE, "python")[0].split("balanced = ")
    assert len([line for line in loop.splitlines()[1:] if line.strip()]) == 10
