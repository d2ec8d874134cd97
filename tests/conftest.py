"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
import re

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see blda_video/commands/command_line.py

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tests" / "support")]


THREADS = min(2, int(os.environ.get("OMP_NUM_THREADS", "1")))


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> Iterator[None]:
    """One thread, or two if OMP_NUM_THREADS allows more.

    What tests compute is too small to share out, and on a busy machine threads that wait for each other take longer.
    """
    torch.set_num_threads(THREADS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blda.engine.runtime.cores", lambda: THREADS)
        yield


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """A test draws the same numbers alone, among others and in any order."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden values and real data; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("BLDA_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set BLDA_SHARED to its folder")
    return folder


@pytest.fixture(scope="session")
def worlds(tmp_path_factory) -> Path:
    """Street worlds of 32 x 64 pixels: `viper`, and `city` with a training and a validation split."""
    import tiny  # here: most tests do without all that it imports

    return tiny.make_worlds(tmp_path_factory.mktemp("worlds"))


@pytest.fixture(scope="session")
def more_worlds(worlds) -> Path:
    """The worlds with one like GTA5, of two images."""
    import tiny
    from blda_video.config import WorldSpec
    from blda_video.street_world.world_writer import make

    make(WorldSpec(worlds / "game", "gta5", "source", "train", 1, 2, tiny.SIZE, seed=9), progress=False)
    return worlds


@pytest.fixture(scope="module")
def mit_weights(tmp_path_factory) -> Iterator[Path]:
    """Random weights that stand for ImageNet's, of the MiT `tiny`."""
    import tiny
    from blda.models.encoders import mit

    path = tmp_path_factory.mktemp("weights") / "tiny.pth"
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(mit.VARIANTS, "tiny", tiny.MIT)
        torch.save(mit.MiT("tiny").state_dict(), path)
        yield path


def pytest_configure(config: pytest.Config) -> None:
    """Without `-m cuda` no test sees a GPU: what runs train is to be the same on every machine."""
    if not re.search(r"(?<!not )\bcuda\b", config.option.markexpr):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """With `-n` of pytest-xdist all tests of a file run in one process, which makes what they share once."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none, or none was asked for."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a GPU; where there is one, run it with: pytest -m cuda")
