"""What the tests share."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see tools/command.py

import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests" / "blda"), str(ROOT / "tools")]


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    torch.set_num_threads(2)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden values and real data; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("BLDA_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set BLDA_SHARED to its folder")
    return folder
