"""blda predict --adapt: statistics from the checkpoint, every video anew, continued as with --fuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import blda
import blda_video
import moving_frames
import trained
from blda.balance.logit_statistics import LogitStatistics
from blda.engine import checkpoint
from blda_video.jobs.frame_prediction import adaptive_stream
from cli import error_of, tool

SIZE = (37, 51)
NUMBERS = range(4)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A checkpoint with the statistics of both domains, the target's of the same network on weaker logits."""
    path = trained.checkpoint_in(tmp_path_factory.mktemp("run"), "video")
    segmenter = blda.load(path)
    statistics = [LogitStatistics(len(segmenter.classes), 3, min_pixels=1) for _ in range(2)]
    generator = torch.Generator().manual_seed(0)
    logits = segmenter.scores(torch.rand(2, 3, *SIZE, generator=generator))
    labels = torch.randint(len(segmenter.classes), (2, *SIZE), generator=generator)
    for own, strength in zip(statistics, (1.0, 0.5), strict=True):
        own.update(strength * logits, labels)
    names = dict(zip(("source_statistics", "target_statistics"), statistics, strict=True))
    checkpoint.save(path, {"student": segmenter.network, **names})
    return path


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    """Two equal folders of frames that get darker."""
    return moving_frames.write(tmp_path_factory.mktemp("frames"), SIZE, NUMBERS, darker=0.2)


def _labels(folder: Path) -> dict[str, np.ndarray]:
    paths = sorted(path for path in folder.rglob("*.png"))
    return {path.relative_to(folder).as_posix(): np.asarray(Image.open(path)) for path in paths}


@pytest.mark.parametrize("more", [[], ["--fuse"]], ids=["alone", "fused"])
def test_every_video_is_adapted_to_alone_and_a_stopped_command_continues_alike(run, frames, tmp_path, more):
    out = tmp_path / "out"
    command = ("predict", run, frames, "--output", out, "--adapt", "--tau", 1, *more)
    tool(*command)
    found = _labels(out)
    assert len(found) == 2 * len(NUMBERS)
    assert all(np.array_equal(found[f"a/{i}.png"], found[f"b/{i}.png"]) for i in NUMBERS)
    assert json.loads((out / "predictions.json").read_text())["adapted"] == "tau 1"
    (out / "b" / "2.png").unlink()
    tool(*command)
    again = _labels(out)
    assert all(np.array_equal(found[name], again[name]) for name in found)
    assert "another adapted" in error_of("predict", run, frames, "--output", out, *more)
    plain = tmp_path / "plain"
    tool("predict", run, frames, "--output", plain, *more)
    other = _labels(plain)
    assert any(not np.array_equal(found[name], other[name]) for name in found)
    (plain / "predictions.json").write_text(
        json.dumps({k: v for k, v in json.loads((plain / "predictions.json").read_text()).items() if k != "adapted"})
    )
    tool("predict", run, frames, "--output", plain, *more)


def test_python_and_command_predict_alike_and_the_stream_is_the_checkpoints(run, frames, tmp_path):
    tool("predict", run, frames / "a", "--output", tmp_path / "out", "--adapt")
    segmenter = blda.load(run)
    stream = adaptive_stream(segmenter)
    written = _labels(tmp_path / "out")
    for frame in blda_video.predict(frames / "a", segmenter, fuse=False, adapt=True):
        scores = stream(segmenter.seen(frame.image))
        assert np.array_equal(frame.prediction.labels, segmenter.prediction(frame.image, scores).labels)
        assert np.array_equal(written[f"{frame.name}.png"], frame.prediction.labels)


def test_mistakes_are_one_line(run, frames, tmp_path):
    out = ("--output", tmp_path / "out")
    assert "--adapt and --calibration" in error_of("predict", run, frames, *out, "--adapt", "--calibration", "c.pt")
    assert "strength of --adapt" in error_of("predict", run, frames, *out, "--tau", 0.1)
    assert "--tau is -1" in error_of("predict", run, frames, *out, "--adapt", "--tau", -1)
    assert "taken one by one" in error_of("predict", run, frames, *out, "--adapt", "--batch", 2)
    (tmp_path / "other").mkdir()
    bare = trained.checkpoint_in(tmp_path / "other", "video")
    assert "of the method blda" in error_of("predict", bare, frames, *out, "--adapt")
