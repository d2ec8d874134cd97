"""The process that compiles the CPU kernels computes the same bits as those that load them from the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CODE = """
import hashlib, torch
from blda.balance import logit_grid
from blda.balance.gaussian_mixture import Mixture
from blda.balance.kernels import cpu, cpu_mixtures

torch.set_num_threads(1)
draw = torch.Generator().manual_seed(0)
def normal(*shape): return torch.randn(*shape, generator=draw) * 4
logits, labels = normal(2, 3, 3000), torch.randint(0, 3, (2, 3000), generator=draw)
counts = cpu.count(logits, labels)
mixture = Mixture(torch.full((3, 3, 3), 1 / 3), normal(3, 3, 3), normal(3, 3, 3).abs() + 0.1)
table, rows = normal(3, 3, logit_grid.BINS), torch.ones(3, dtype=torch.bool)
fitted = cpu_mixtures.fit(mixture, counts, 3)
cpu_mixtures.align(fitted, Mixture(*(field[0, :2].contiguous() for field in mixture)), 1e-3, table, rows)
loss, gradient = cpu.loss_and_gradient(logits, labels, 0, None, 6000, table, rows, 1.0)
for result in (counts, *fitted, table, loss, gradient):
    print(hashlib.sha256(result.contiguous().numpy().tobytes()).hexdigest())
"""


def test_the_compiling_process_and_the_next_agree_bit_for_bit(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path)}
    said = []
    for cached in (False, True):
        assert any(tmp_path.rglob("*.nbc")) == cached
        command = [sys.executable, "-c", CODE]
        said.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert said[0].count("\n") == 7
    assert said[0] == said[1]
