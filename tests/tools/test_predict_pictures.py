"""Pictures that blda predict writes: overlays, legends, side by side; and its speed, batches and precision."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from blda.config import loading
from blda.engine import checkpoint, runtime
from blda.engine.class_lists import CLASSES, LABEL_MAP
from blda_video.build import video_run
from blda_video.config import VideoConfig
from blda_video.jobs.frame_pictures import Appearance
from blda_video.jobs.prediction_sheet import titles_of
from blda_video.jobs.video_prediction import ABOUT
from blda_video.stream import video_writer
from cli import error_of, tool

SIZES = {"a": (37, 51), "b": (40, 50), "c": (40, 50), "d": (60, 30)}
SPEED = re.compile(r"(\d+) frames in [\d.]+ s: [\d.]+ frames a second \((.*), precision (\w+), batch (\d+)\)")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A checkpoint of a network whose predictions differ from place to place."""
    folder = tmp_path_factory.mktemp("run")
    overrides = ("classes=[road, sky, car]", "evaluation.protocols=[]", *tiny.BATCH_NORM)
    loading.save(tiny.load(Path("nowhere"), folder, "video", *overrides), folder / "config.yaml")
    student = video_run(loading.load(folder / "config.yaml", VideoConfig), runtime.start("no")).networks.student()
    weight = student.head.classifier.weight.detach().normal_(generator=torch.Generator().manual_seed(0))
    weight -= weight.mean(1, keepdim=True)
    checkpoint.save(folder / "step_000001.pt", {"student": student})
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Images of several sizes."""
    root, noise = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for name, size in SIZES.items():
        cv2.imwrite(str(root / f"{name}.png"), noise.integers(0, 256, (*size, 3), np.uint8))
    return root


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    """Frames of one video."""
    root, noise = tmp_path_factory.mktemp("frames"), np.random.default_rng(1)
    for i in range(3):
        cv2.imwrite(str(root / f"{i}.png"), noise.integers(0, 256, (48, 64, 3), np.uint8))
    return root


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def _labels(folder: Path) -> list[list[int]]:
    return [_pixels(path).tolist() for path in sorted(folder.glob("*.png"))]


def _film(monkeypatch, run: Path, frames: Path, output: Path, *options: object) -> list[np.ndarray]:
    """The pictures that a video would be made of."""
    made: list[np.ndarray] = []
    monkeypatch.setattr(video_writer, "_encode", lambda *given: made.extend(given[3]))
    tool("predict", run, frames, "--output", output, *options)
    return made


def test_a_folder_of_images_of_any_sizes(run, photos, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    tool("predict", run, photos, "--output", out)
    assert {path.stem: _pixels(path).shape for path in out.glob("*.png")} == SIZES
    assert {path.name for path in out.iterdir()} >= {ABOUT, LABEL_MAP, CLASSES} and not (out / "overlays").exists()
    count, _, precision, batch = SPEED.fullmatch(capsys.readouterr().out.strip()).groups()
    assert (count, precision, batch) == ("4", "no", "1")

    tool("predict", run, photos, "--output", out, "--overlay", 0.5)
    drawn = {path.stem: _pixels(path) for path in (out / "overlays").glob("*.jpg")}
    assert {name: picture.shape[1] for name, picture in drawn.items()} == {
        name: size[1] for name, size in SIZES.items()
    }
    assert all(len(picture) > SIZES[name][0] for name, picture in drawn.items()), "with a legend below"
    capsys.readouterr()
    tool("predict", run, photos, "--output", out, "--overlay", 0.5)
    assert "all frames are there already" in capsys.readouterr().out


def test_one_image(run, photos, tmp_path) -> None:
    tool("predict", run, photos / "d.png", "--output", tmp_path / "out", "--side-by-side", "--legend", "none")
    assert _pixels(tmp_path / "out" / "d.png").shape == SIZES["d"]
    assert _pixels(tmp_path / "out" / "overlays" / "d.jpg").shape == (60, 60, 3)


def test_batches_predict_what_single_frames_do(run, photos, tmp_path, capsys) -> None:
    tool("predict", run, photos, "--output", tmp_path / "one")
    tool("predict", run, photos, "--output", tmp_path / "two", "--batch", 2)
    assert SPEED.search(capsys.readouterr().out.splitlines()[-1])[4] == "2"
    one, two = _labels(tmp_path / "one"), _labels(tmp_path / "two")
    same = [np.mean(np.array(a) == np.array(b)) for a, b in zip(one, two, strict=True)]
    assert min(same) > 0.99, "but for ties that rounding decides"


def test_bf16_is_autocast_and_belongs_to_the_folder(run, photos, tmp_path, capsys) -> None:
    tool("predict", run, photos, "--output", tmp_path / "half", "--precision", "bf16")
    assert SPEED.search(capsys.readouterr().out)[3] == "bf16"
    tool("predict", run, photos, "--output", tmp_path / "full")
    half, full = _labels(tmp_path / "half"), _labels(tmp_path / "full")
    same = np.mean([np.mean(np.array(a) == np.array(b)) for a, b in zip(half, full, strict=True)])
    assert same > 0.8, "nearly what float32 predicts"
    assert "another precision" in error_of("predict", run, photos, "--output", tmp_path / "half")
    about = json.loads((tmp_path / "half" / ABOUT).read_text())
    del about["precision"]  # as older versions wrote it
    (tmp_path / "half" / ABOUT).write_text(json.dumps(about))
    tool("predict", run, photos, "--output", tmp_path / "half")


def test_the_network_sees_the_precision(run, monkeypatch) -> None:
    from blda import load
    from blda_video.jobs.video_prediction import set_precision

    segmenter, kinds = load(run), []
    segmenter.network.head.classifier.register_forward_hook(lambda _, __, out: kinds.append(out.dtype))
    for asked in ("bf16", "no", None):
        set_precision(segmenter, asked)
        segmenter.predict(np.zeros((32, 32, 3), np.uint8))
    assert kinds == [torch.bfloat16, torch.float32, torch.float32]


def test_a_video_with_overlay_legend_and_the_frame_beside_it(run, frames, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out.mp4"
    images = [_pixels(path) for path in sorted(frames.glob("*.png"))]
    plain = _film(monkeypatch, run, frames, out, "--overlay", 0, "--legend", "none")
    assert all(np.array_equal(picture, image) for picture, image in zip(plain, images, strict=True))
    both = _film(monkeypatch, run, frames, out, "--side-by-side", "--legend", "none")
    assert [picture.shape for picture in both] == [(48, 128, 3)] * 3
    assert np.array_equal(both[0][:, :64], images[0]) and not np.array_equal(both[0][:, 64:], images[0])
    for legend in ("all", "seen"):
        pictures = _film(monkeypatch, run, frames, out, "--legend", legend)
        assert len({picture.shape for picture in pictures}) == 1 and len(pictures[0]) > 48


def test_a_video_file_of_overlays(run, frames, tmp_path, capsys) -> None:
    av = pytest.importorskip("av")
    tool("predict", run, frames, "--output", tmp_path / "out.mp4", "--overlay", 0.5, "--side-by-side", "--rate", 5)
    with av.open(str(tmp_path / "out.mp4")) as film:
        found = [frame.to_ndarray(format="rgb24").shape for frame in film.decode(video=0)]
    assert len(set(found)) == 1 and len(found) == 3 and found[0][1] == 128 and found[0][0] > 48
    assert SPEED.search(capsys.readouterr().out)[1] == "3"


def test_mistakes_are_one_line(run, frames, tmp_path) -> None:
    out = ("--output", tmp_path / "out")
    assert "--overlay is 2" in error_of("predict", run, frames, "--overlay", 2, *out)
    assert "--batch is 0" in error_of("predict", run, frames, "--batch", 0, *out)
    assert "one by one" in error_of("predict", run, frames, "--batch", 2, "--fuse", *out)
    assert not (tmp_path / "out").exists()
    assert "--frames is 0" in error_of("draw", run, "--frames", 0, "--output", tmp_path / "a.png")


def test_strengths_are_checked_once() -> None:
    assert Appearance().strength == 0.5
    with pytest.raises(ValueError, match="--overlay"):
        Appearance(-0.1)


def test_columns_are_named_by_method_and_step() -> None:
    assert titles_of([Path("runs/a/blda/step_000700.pt"), Path("runs/a/source_only/step_000000.pt")]) == [
        "blda step 700",
        "source_only step 0",
    ]
    same = titles_of([Path("runs/a/blda/step_000700.pt"), Path("runs/b/blda/step_000700.pt")])
    assert same == ["a/blda step 700", "b/blda step 700"]
    deep = titles_of([Path("runs/a/0/blda/step_000700.pt"), Path("runs/b/0/blda/step_000700.pt")])
    assert deep == ["a/0/blda step 700", "b/0/blda step 700"]
