"""Caches where neither the code's folder nor the home can be written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from blda.cache_folders import temporary_folder, writable

ROOT = Path(__file__).parents[2]
CODE = """
import logging, torch
from blda.balance.logit_statistics import LogitStatistics
from blda.balance.figures import statistics_figure
from blda.balance.kernels.choice import kernels
import blda, numba
assert kernels("cpu") is not None
counts = LogitStatistics(2).histogram(torch.zeros(1, 2, 4), torch.zeros(1, 4, dtype=torch.uint8))
print(blda.__file__, counts.sum().item(), numba.config.CACHE_DIR, sep="|")
"""


@pytest.mark.parametrize("temporary", [True, False], ids=["temporary folder", "no folder at all"])
def test_kernels_compile_without_a_home(tmp_path: Path, temporary: bool) -> None:
    """A file stands where numba's folder beside the code would be, for root may write in any folder."""
    pytest.importorskip("numba")
    shutil.copytree(ROOT / "blda", tmp_path / "tree/blda", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tree/blda/balance/kernels/__pycache__").write_text("")
    (tmp_path / "tmp").mkdir()
    user = os.getuid() if hasattr(os, "getuid") else 0
    if not temporary:
        (tmp_path / f"tmp/blda-numba-{user}").write_text("in the way")
    nowhere = {name: "/dev/null/home" for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TORCH_HOME")}
    environment = {key: value for key, value in os.environ.items() if key not in ("NUMBA_CACHE_DIR", "PYTHONPATH")}
    environment |= {**nowhere, "PYTHONPATH": str(tmp_path / "tree"), "TMPDIR": str(tmp_path / "tmp")}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    home, total, cache = done.stdout.strip().split("|")
    assert home.startswith(str(tmp_path))
    assert float(total) == 8
    assert done.stderr.count("cache of numba") == 1
    assert cache == (str(tmp_path / f"tmp/blda-numba-{user}") if temporary else "")


def test_a_folder_that_others_can_fill_is_not_taken(tmp_path: Path, monkeypatch) -> None:
    if not hasattr(os, "getuid"):
        pytest.skip("this system has no users of files")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    folder = temporary_folder("once")
    assert folder is not None
    assert folder.stat().st_mode & 0o777 == 0o700
    open_to_all = tmp_path / f"blda-open-{os.getuid()}"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    assert temporary_folder("open") is None
    (tmp_path / f"blda-link-{os.getuid()}").symlink_to(folder)
    assert temporary_folder("link") is None
    assert not writable(Path("/dev/null/x"))
