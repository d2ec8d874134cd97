"""blda predict as a user types it, and how evaluation's windows reach the tools."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import moving_frames
import tiny
from blda.build.run import Run
from blda.config import loading
from blda.data.readers.frames import Frame
from blda.engine import checkpoint, runtime
from blda.engine.inference import Predictor
from blda.models.test_time_augmentation import Flipped, Sliding
from blda_video.build import video_run
from blda_video.config import VideoConfig
from blda_video.stream import video_writer
from blda_video.stream.frame_source import open_frame_source
from cli import error_of, tool

TOOL = Path(__file__).parents[2] / "tools" / "predict_video.py"
SIZE = (37, 51)
FRAMES = 5


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A checkpoint of a network whose predictions differ from place to place."""
    folder = tmp_path_factory.mktemp("run")
    overrides = ("classes=[road, sky, car]", "evaluation.protocols=[]", *tiny.BATCH_NORM)
    loading.save(tiny.load(Path("nowhere"), folder, "video", *overrides), folder / "config.yaml")
    student = _composed(folder).networks.student()
    weight = student.head.classifier.weight.detach().normal_()
    weight -= weight.mean(1, keepdim=True)
    checkpoint.save(folder / "step_000001.pt", {"student": student})
    return folder / "step_000001.pt"


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    """Two folders of frames."""
    return moving_frames.write(tmp_path_factory.mktemp("frames"), SIZE, range(8, 8 + FRAMES), first=8)


def _composed(folder: Path, *overrides: str) -> Run:
    return video_run(loading.load(folder / "config.yaml", VideoConfig, overrides), runtime.start("no"))


def _labels(folder: Path) -> dict[str, np.ndarray]:
    return {path.relative_to(folder).as_posix(): np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))}


def _same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def _film(path: Path, count: int = 4, size: tuple[int, int] = SIZE) -> Path:
    pictures = (np.full((*size, 3), 40 * i + 30, np.uint8) for i in range(count))
    video_writer.save_video(path, pictures, 12.5)
    return path


def test_every_frame_of_a_folder_gets_labels_and_what_is_there_is_left(run, frames, tmp_path):
    out = tmp_path / "out"
    tool("predict_video", run, frames, "--output", out)
    found = _labels(out)
    assert list(found) == sorted(f"{folder}/{i + 8}.png" for folder in "ab" for i in range(FRAMES))
    assert {labels.shape for labels in found.values()} == {SIZE}
    assert {value for labels in found.values() for value in np.unique(labels)} <= {0, 1, 2}
    assert any(len(np.unique(labels)) > 1 for labels in found.values())
    assert Image.open(out / "a" / "8.png").mode == "P"

    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    (out / "b" / "9.png").unlink()
    tool("predict_video", run, frames, "--output", out)
    assert _same(_labels(out), found)
    changed = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {"9.png"}
    assert "another settings" in error_of("predict_video", run, frames, "evaluation.flip=true", "--output", out)
    assert not list(out.rglob(".*")), "no draft stays"


def test_fusion_starts_anew_in_every_folder_and_continues_alike(run, frames, tmp_path):
    plain, fused = tmp_path / "plain", tmp_path / "fused"
    tool("predict_video", run, frames, "--output", plain)
    tool("predict_video", run, frames, "--output", fused, "--fuse")
    first, second = _labels(plain), _labels(fused)
    for folder in "ab":
        assert np.array_equal(first[f"{folder}/8.png"], second[f"{folder}/8.png"])
    assert not _same(first, second)
    assert all(np.array_equal(second[f"a/{i}.png"], second[f"b/{i}.png"]) for i in range(8, 13)), "alike from the start"
    assert "dis-ultrafast" in json.loads((fused / "predictions.json").read_text())["fused"]
    (fused / "a" / "10.png").unlink()
    tool("predict_video", run, frames, "--output", fused, "--fuse")
    assert _same(_labels(fused), second)


def test_a_video_is_read_and_written_frame_by_frame(run, tmp_path):
    av = pytest.importorskip("av")
    source, drawn, labels = _film(tmp_path / "in.mp4"), tmp_path / "deep" / "drawn.mp4", tmp_path / "labels"
    read = open_frame_source(source)
    assert read.rate == pytest.approx(12.5)
    assert read.frames[2].read().shape == (38, 52, 3)
    tool("predict_video", run, source, "--output", labels)
    assert [path.name for path in sorted(labels.glob("*.png"))] == [f"{i:06d}.png" for i in range(4)]
    tool("predict_video", run, source, "--output", drawn, "--fuse", "--flow", "dis-fast")
    with av.open(str(drawn)) as file:
        assert float(file.streams.video[0].average_rate) == pytest.approx(12.5)
        shapes = [frame.to_ndarray(format="rgb24").shape for frame in file.decode(video=0)]
    assert len(shapes) == 4 and len(set(shapes)) == 1
    assert shapes[0][1] == 52 and shapes[0][0] > 38, "the frame, and a legend below it"
    assert [path.name for path in drawn.parent.iterdir()] == ["drawn.mp4"]


def test_a_frame_is_written_before_the_next_is_read(run, frames, tmp_path, monkeypatch):
    read, plain = [], Frame.read
    monkeypatch.setattr(Frame, "read", lambda self: (read.append(self.name), plain(self))[1])
    seen = []
    monkeypatch.setattr(video_writer, "_encode", lambda *given: seen.extend(len(read) for _ in given[3]))
    tool("predict_video", run, frames, "--output", tmp_path / "out.mp4")
    assert seen == list(range(1, 2 * FRAMES + 1))


def test_a_film_that_fails_leaves_nothing(tmp_path):
    pytest.importorskip("av")

    def pictures():
        yield np.zeros((32, 32, 3), np.uint8)
        raise ValueError("a frame is damaged")

    with pytest.raises(ValueError, match="damaged"):
        video_writer.save_video(tmp_path / "out.mp4", pictures(), 10)
    with pytest.raises(ValueError, match="make no video"):
        video_writer.save_video(tmp_path / "out.mp4", (np.zeros((side, 32, 3), np.uint8) for side in (32, 34)), 10)
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_one_line(run, frames, tmp_path):
    (tmp_path / "empty").mkdir()
    out = ("--output", tmp_path / "out")
    assert "no image" in error_of("predict_video", run, tmp_path / "empty", *out)
    assert "no checkpoint" in error_of("predict_video", tmp_path / "step_000001.pt", frames, *out)
    assert "--flow" in error_of("predict_video", run, frames, "--fuse", "--flow", "diss", *out)
    assert "decay is 1.0" in error_of("predict_video", run, frames, "--fuse", "--decay", 1, *out)
    assert "--rate is 0" in error_of("predict_video", run, frames, "--rate", 0, *out)
    assert "leaves gaps" in error_of(
        "predict_video", run, frames, "evaluation.window=[16,16]", "evaluation.stride=[16,17]", *out
    )
    assert "evaluation.stride" in error_of("predict_video", run, frames, "evaluation.stride=[8,8]", *out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    assert "is not empty" in error_of("predict_video", run, frames, "--output", tmp_path / "full")
    for content in ("{", "[]"):
        (tmp_path / "full" / "predictions.json").write_text(content)
        assert "predictions.json is damaged" in error_of("predict_video", run, frames, "--output", tmp_path / "full")
    for inside in (frames, frames / "labels"):
        assert "is the input" in error_of("predict_video", run, frames, "--output", inside)
    pytest.importorskip("av")
    assert "nowhere.mp4" in error_of("predict_video", run, tmp_path / "nowhere.mp4", *out)


def test_the_config_says_how_a_run_predicts(run):
    image = torch.rand(1, 3, 40, 70)
    student = _composed(run.parent).networks.student()
    plain = _composed(run.parent).evaluation.predictor(student)
    assert plain.model is student
    assert torch.equal(plain(image), Predictor(student)(image))
    windows = _composed(run.parent, "evaluation.window=[32,32]", "evaluation.flip=true", "evaluation.window_batch=3")
    expected = Predictor(Flipped(Sliding(student, (32, 32), (16, 16), 3)))(image)
    assert torch.equal(windows.evaluation.predictor(student)(image), expected)
    assert not torch.equal(expected, plain(image))
    scored = windows.evaluation.predictor(student, lambda logits: logits * 2)
    assert torch.equal(scored(image), expected * 2)


def test_every_size_that_fits_the_window_is_predicted_as_without(run, frames, tmp_path):
    plain, windows = tmp_path / "plain", tmp_path / "windows"
    tool("predict_video", run, frames / "a", "--output", plain, "evaluation.size=[32,48]")
    tool(
        "predict_video", run, frames / "a", "--output", windows, "evaluation.size=[32,48]", "evaluation.window=[32,48]"
    )
    assert _same(_labels(plain), _labels(windows))
