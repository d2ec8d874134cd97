"""The Python of docs/python.md and the README's three lines run as they stand there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blda
import blda_video
import tiny
import trained
from blda_video.stream.video_writer import save_video
from fake_hub import FakeHub
from pages import ROOT, blocks

PAGE = blocks((ROOT / "docs" / "python.md").read_text(encoding="utf-8"), "python")
TRAIN = 'blda_video.train("demo"'


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with all that the snippets read, which is the current one."""
    pytest.importorskip("av")
    trained.checkpoint_in(tmp_path / "runs" / "demo" / "blda", "video")
    pictures = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), np.uint8)
    Image.fromarray(pictures[0]).save(tmp_path / "street.png")
    save_video(tmp_path / "drive.mp4", iter(pictures), 10)
    trained.calibration().save(tmp_path / "demo.cal")
    FakeHub(tmp_path / "hub", monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_pages_snippets_run_one_after_the_other(place, worlds, capsys):
    (train,) = (snippet for snippet in PAGE if TRAIN in snippet)
    namespace: dict[str, object] = {}
    for number, snippet in enumerate(PAGE):
        if snippet != train:
            exec(compile(snippet, f"python.md, snippet {number}", "exec"), namespace)
    said = capsys.readouterr().out
    assert "('road', 'sky', 'car')" in said
    assert "(48, 64) (3, 48, 64)" in said
    assert "% of the pixels have another label" in said
    assert "000002 (48, 64, 3)" in said
    made = ["street_overlay.png", "labels/2.png", "drive_labels.mp4", "drive_labels/000002.png"]
    made.append("street-network/README.md")
    assert [name for name in made if not (place / name).is_file()] == []
    assert namespace["segmenter"].origin.path == place / "hub" / "user" / "street-network" / "model.safetensors"


def test_the_pages_training_runs_on_a_small_world(place, worlds, capsys):
    """The demo itself takes minutes: its place is taken by a run of one step."""
    (train,) = (snippet for snippet in PAGE if TRAIN in snippet)
    roots = dict(override.split("=", 1) for override in tiny.roots(worlds))
    small = train.replace(TRAIN, f"blda_video.train({str(tiny.TESTS / 'tiny_video.yaml')!r}, **roots")
    given = {"roots": roots, "blda_video": blda_video}  # an earlier snippet imports it
    exec(compile(small.replace('"steps": 100', '"steps": 1'), "python.md", "exec"), given)
    assert float(capsys.readouterr().out) >= 0
    assert blda.load("runs/mine").protocol.name == "viper15"


def test_the_readmes_three_lines_run(place):
    snippet = blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python")[0]
    assert "blda.load" in snippet
    namespace: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), namespace)
    assert namespace["prediction"].labels.shape == (48, 64)
    assert (place / "street_overlay.png").is_file()


def test_every_public_name_of_loading_and_video_is_on_the_page():
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    names = [f"blda_video.{name}" for name in blda_video.__all__ if name.islower()]
    assert [name for name in ("blda.load", *names, "TrainedSegmenter", "Prediction") if name not in text] == []
