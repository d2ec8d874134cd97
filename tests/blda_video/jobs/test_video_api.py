"""blda_video from Python: predicting, writing and training without a command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import blda
import blda_video
import moving_frames
import tiny
import trained
from blda.config import loading
from blda.data.readers.frames import Frame
from blda.deploy.trained_segmenter import TrainedSegmenter
from blda_video.config import VideoConfig
from blda_video.jobs.frame_prediction import flow_of
from blda_video.jobs.training_job import as_override
from blda_video.stream import video_writer
from cli import tool

ROOT = Path(__file__).parents[3]
SIZE = (37, 51)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return trained.checkpoint_in(tmp_path_factory.mktemp("run"), "video")


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    """Two folders of frames that move, and an image of another size in the second."""
    root = moving_frames.write(tmp_path_factory.mktemp("frames"), SIZE, range(3))
    cv2.imwrite(str(root / "b" / "3.png"), moving_frames.texture(SIZE[0])[:33, :45])
    return root


@pytest.mark.parametrize("fuse", [True, False])
def test_frames_are_those_that_the_command_writes(run, frames, tmp_path, fuse):
    tool("predict", run, frames, "--output", tmp_path / "command", *(["--fuse"] if fuse else []))
    predicted = blda_video.predict(frames, blda.load(run), fuse=fuse)
    assert (len(predicted), predicted.rate) == (7, None)
    for image, prediction, name in predicted:
        assert np.array_equal(prediction.image, image)
        assert np.array_equal(np.asarray(Image.open(tmp_path / "command" / f"{name}.png")), prediction.labels)
        np.testing.assert_allclose(prediction.probabilities.sum(0), 1, atol=1e-5)
    assert name == "b/3"
    assert len(predicted) == 0


def test_a_folder_begins_anew_and_time_counts_within_it(run, frames):
    fused, alone = ({f.name: f.prediction for f in blda_video.predict(frames, run, fuse)} for fuse in (True, False))
    for name in ("a/0", "b/0"):
        assert _alike(fused[name], alone[name])
    assert not _alike(fused["a/2"], alone["a/2"])
    forgets = {f.name: f.prediction for f in blda_video.predict(frames, run, decay=0)}
    assert _alike(forgets["a/2"], alone["a/2"])
    still = {
        f.name: f.prediction for f in blda_video.predict(frames, run, flow=lambda one, _: torch.zeros_like(one[:, :2]))
    }
    assert not _alike(still["a/2"], fused["a/2"])


def _alike(one: blda.Prediction, other: blda.Prediction) -> bool:
    """Tell whether two predictions are the same but for the rounding of probabilities."""
    return np.allclose(one.probabilities, other.probabilities, atol=1e-6)


def test_frames_of_one_size_go_through_the_network_together(run, frames, monkeypatch):
    shapes, scores = [], TrainedSegmenter.scores

    def counted(self: TrainedSegmenter, seen: torch.Tensor) -> torch.Tensor:
        shapes.append(len(seen))
        return scores(self, seen)

    single = list(blda_video.predict(frames, run, fuse=False))
    monkeypatch.setattr(TrainedSegmenter, "scores", counted)
    batched = list(blda_video.predict(frames, run, fuse=False, batch=4))
    assert shapes == [4, 2, 1]
    assert [frame.name for frame in batched] == [frame.name for frame in single]
    for one, other in zip(single, batched, strict=True):
        np.testing.assert_allclose(one.prediction.probabilities, other.prediction.probabilities, atol=1e-5)


def test_a_frame_is_predicted_when_it_is_asked_for(run, frames, monkeypatch):
    read, plain = [], Frame.read
    monkeypatch.setattr(Frame, "read", lambda self: (read.append(self.name), plain(self))[1])
    predicted = blda_video.predict(frames, run, wanted=[4, 5])
    assert read == []
    assert (next(predicted).name, read) == ("b/1", ["b/1"])


def test_the_writer_fills_a_folder_or_a_video(run, frames, tmp_path):
    out = blda_video.write(blda_video.predict(frames, run), tmp_path / "labels")
    for frame in blda_video.predict(frames, run):
        assert np.array_equal(np.asarray(Image.open(out / f"{frame.name}.png")), frame.prediction.labels)
    av = pytest.importorskip("av")
    pictures = (np.full((38, 52, 3), 40 * i + 30, np.uint8) for i in range(4))
    video_writer.save_video(tmp_path / "in.mp4", pictures, 12.5)
    predicted = blda_video.predict(tmp_path / "in.mp4", run)
    assert predicted.rate == pytest.approx(12.5)
    blda_video.write(predicted, tmp_path / "out.mp4", legend=False)
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert float(file.streams.video[0].average_rate) == pytest.approx(12.5)
        assert [(frame.height, frame.width) for frame in file.decode(video=0)] == [(38, 52)] * 4
    blda_video.write(blda_video.predict(tmp_path / "in.mp4", run), tmp_path / "named.mp4", rate=5)
    with av.open(str(tmp_path / "named.mp4")) as file:
        assert float(file.streams.video[0].average_rate) == pytest.approx(5)
        assert next(file.decode(video=0)).height > 38, "the legend is below"


def test_the_flow_is_the_runs_own_or_dis(run, tmp_path):
    video = blda.load(run)
    assert flow_of(video) == {"name": "dis", "preset": "ultrafast"}
    assert flow_of(video, "raft-small") == "raft-small"
    stored = blda.load(run, overrides=["flow={name: store, root: nowhere}"])
    image = blda.load(trained.checkpoint_in(tmp_path, "image"))
    assert flow_of(stored) == flow_of(image) == "dis-medium"


def test_mistakes_are_one_line_before_the_first_frame(run, frames, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image"):
        blda_video.predict(tmp_path / "empty", run)
    with pytest.raises(ValueError, match="decay is 1"):
        blda_video.predict(frames, run, decay=1)
    with pytest.raises(ValueError, match="batch is 0"):
        blda_video.predict(frames, run, fuse=False, batch=0)
    with pytest.raises(ValueError, match="flow"):
        blda_video.predict(frames, run, flow="diss")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        blda_video.predict(frames, tmp_path / "step_000001.pt")
    pytest.importorskip("av")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.mp4"):
        blda_video.predict(tmp_path / "nowhere.mp4", run)
    (tmp_path / "sound.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match=r"sound\.mp4") as raised:
        blda_video.predict(tmp_path / "sound.mp4", run)
    assert "\n" not in str(raised.value)


def test_a_video_without_frames_is_one_line(run, tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with pytest.raises(ValueError, match=r"sound\.mp4") as raised:
        blda_video.predict(tmp_path / "sound.mp4", run)
    assert "\n" not in str(raised.value)


def test_overrides_are_what_the_command_line_takes(tmp_path):
    given = {
        "run": tmp_path / "räum 'x'",
        "training": {"steps": 3, "precision": "no", "batch": 1},
        "optimizer.lr": 6e-5,
        "offsets": (-2, -1),
        "smoothing": None,
        "evaluation": {"window": [8, 8]},
    }
    overrides = [as_override(key, value) for key, value in given.items()]
    config = loading.load(tiny.TESTS / "tiny_video.yaml", VideoConfig, overrides)
    assert (config.run, config.offsets, config.smoothing) == (str(tmp_path / "räum 'x'"), (-2, -1), None)
    assert (config.training.steps, config.training.precision, config.training.workers) == (3, "no", 0)
    assert (config.optimizer.lr, config.optimizer.clip, config.evaluation.window) == (6e-5, 1.0, (8, 8))


def test_training_from_python_gives_the_scores_of_each_method(worlds, tmp_path):
    roots = dict(override.split("=", 1) for override in tiny.roots(worlds))
    overrides = {"run": tmp_path, "training": {"steps": 1}, "compare": ["source_only"], **roots}
    scores = blda_video.train(tiny.TESTS / "tiny_video.yaml", **overrides)
    assert list(scores) == ["source_only", "blda"]
    assert scores["blda"].keys() >= {"mIoU", "iou/road", "viper15/mIoU"}
    segmenter = blda.load(tmp_path / "blda")
    assert segmenter.origin.scores["mIoU"] == pytest.approx(scores["blda"]["mIoU"])
    assert segmenter.protocol.name == "viper15"
    again = blda_video.train(tiny.TESTS / "tiny_video.yaml", resume=True, **overrides)
    assert again["blda"]["mIoU"] == pytest.approx(scores["blda"]["mIoU"])
    with pytest.raises(ValueError, match="holds a run"):
        blda_video.train(tiny.TESTS / "tiny_video.yaml", **overrides)
    with pytest.raises(ValueError, match="unknown key 'trainings'"):
        blda_video.train(tiny.TESTS / "tiny_video.yaml", trainings={"steps": 1})


def test_one_process_trains_one_after_the_other_in_several_precisions(worlds, tmp_path):
    roots = dict(override.split("=", 1) for override in tiny.roots(worlds))
    for precision in ("no", "bf16", "no"):
        training = {"steps": 1, "precision": precision}
        run = tmp_path / f"{precision}{len(list(tmp_path.iterdir()))}"
        blda_video.train(tiny.TESTS / "tiny.yaml", run=run, method="source_only", training=training, **roots)
        assert blda.load(run).config.training.precision == precision


def test_importing_blda_video_is_quick_and_its_public_names_exist():
    code = (
        "import sys, blda_video; assert 'torch' not in sys.modules; "
        "[getattr(blda_video, name) for name in blda_video.__all__]; assert 'predict' in dir(blda_video)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(AttributeError, match="it offers PredictedFrame"):
        _ = blda_video.predicts
