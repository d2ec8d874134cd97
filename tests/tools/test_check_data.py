"""Bad data, end to end: what the check says, how training refuses or goes on. Street worlds of 32 x 64 pixels."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import tiny
from blda.build.run import Run
from blda.config import loading
from blda.data import class_statistics
from blda.engine import checkpoint
from blda_video.config import VideoConfig
from cli import exit_of


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return tiny.make_worlds(tmp_path_factory.mktemp("data"), source=(1, 4), target=(1, 6), validation=(1, 5))


@pytest.fixture
def data(sound: Path, tmp_path: Path) -> Path:
    """A copy to damage, in a folder that is not ASCII."""
    return shutil.copytree(sound, tmp_path / "dätä 路")


@pytest.fixture
def config(data: Path, tmp_path: Path) -> Path:
    return _saved(data, tmp_path, "video", "offsets=[-1]")


def _saved(data: Path, folder: Path, mode: str, *overrides: str) -> Path:
    method = ("method=self_training", "training.steps=6")
    loading.save(tiny.load(data, folder / "run", mode, *method, *overrides), folder / "config.yaml")
    return folder / "config.yaml"


def files(root: Path) -> dict[str, tuple[int, int]]:
    found = {path: path.lstat() for path in root.rglob("*")}
    return {str(path): (state.st_size, state.st_mtime_ns) for path, state in found.items()}


def test_a_sound_run_is_checked_and_its_statistics_are_used(config, data, tmp_path, monkeypatch, capsys):
    before = files(data)
    for path in data.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    report = tmp_path / "report.json"
    assert exit_of("check_data", config, "--all", "--workers", 0, "--json", report) == 0
    printed = capsys.readouterr().out
    assert "training can start" in printed and "neighbours at -1" in printed
    record = json.loads(report.read_text())
    assert record["works"] and record["data"]["target"]["neighbours"][0]["found"] == 5
    assert record["data"]["source"]["opened"] == 4 and record["data"]["target"]["pairs"] == 0
    (cached,) = (tmp_path / "run" / "cache").iterdir()

    monkeypatch.setattr(class_statistics, "_count", lambda *_: pytest.fail("counted again"))
    assert exit_of("train_video", config) == 0
    assert list((tmp_path / "run" / "cache").iterdir()) == [cached]
    assert files(data) == before, "data sets are only read"


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def _broken_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


def _other_size(path: Path) -> None:
    assert cv2.imwrite(str(path.with_name("x.png")), np.zeros((8, 8), np.uint8))
    path.with_name("x.png").replace(path)


def _unknown_ids(path: Path) -> None:
    assert cv2.imwrite(str(path.with_name("x.png")), np.full((32, 64), 77, np.uint8))
    path.with_name("x.png").replace(path)


def _colours(path: Path) -> None:
    assert cv2.imwrite(str(path.with_name("x.png")), np.zeros((32, 64, 3), np.uint8))
    path.with_name("x.png").replace(path)


DAMAGES = {
    "truncated JPEG": ("viper/train/img", ".jpg", _cut_off, "cut off"),
    "truncated PNG": ("city/leftImg8bit_sequence/train", ".png", _cut_off, "cut off"),
    "label of another size": ("viper/train/cls", ".png", _other_size, "but its label"),
    "id outside the map": ("viper/train/cls", ".png", _unknown_ids, "unknown ids 77"),
    "colours": ("city/gtFine/val", ".png", _colours, "not colours"),
    "broken link": ("viper/train/img", ".jpg", _broken_link, "no image"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_training_refuses_bad_data_and_names_the_check(config, data, tmp_path, capsys, damage):
    folder, suffix, spoil, message = DAMAGES[damage]
    bad = sorted((data / folder).rglob(f"*{suffix}"))[0]
    spoil(bad)
    said = exit_of("train_video", config, "training.steps=7")
    assert said.startswith("error: ") and "\n" not in said
    assert message in said and str(bad) in said
    assert f"blda check-data {config} training.steps=7)" in said
    assert not list(tmp_path.rglob("*.jsonl"))
    assert exit_of("check_data", config, "--workers", 0) == 1
    printed = capsys.readouterr().out
    assert message in printed and str(bad) in printed and "training could not work" in printed


@pytest.mark.parametrize("emptied", ["viper/train/img", "city/leftImg8bit_sequence/train", "city/gtFine/val"])
def test_an_empty_folder_is_an_error(config, data, capsys, emptied):
    shutil.rmtree(data / emptied)
    (data / emptied).mkdir()
    assert f"{emptied}/**" in exit_of("train_video", config)
    assert exit_of("check_data", config, "--workers", 0) == 1
    assert f"{emptied}/**" in capsys.readouterr().out


def test_a_wrong_split_is_an_error(config, capsys):
    said = exit_of("train_video", config, "target.reader.split=trian")
    assert "trian" in said and "blda check-data" in said


def test_missing_flow_is_an_error_with_the_command(config, data, tmp_path, capsys):
    stored = f"flow={{name: store, root: '{tmp_path}/flow', estimator: dis-ultrafast}}"
    assert "10 flows are not stored" in exit_of("train_video", config, stored)
    assert exit_of("check_data", config, stored, "--workers", 0) == 1
    assert f"blda compute-flow {config} 'flow=" in capsys.readouterr().out
    assert exit_of("compute_flow", config, stored) == 0
    assert exit_of("check_data", config, stored, "--workers", 0) == 0


def _vanish_after_the_check(monkeypatch, bad: Path) -> None:
    prepare = Run.prepare

    def prepared(self: Run, methods: object) -> None:
        prepare(self, methods)
        bad.unlink()

    monkeypatch.setattr(Run, "prepare", prepared)


def test_a_file_that_vanishes_during_training_stops_it_with_the_path(config, data, monkeypatch):
    bad = _a_target_frame(data)
    _vanish_after_the_check(monkeypatch, bad)
    said = exit_of("train_video", config, "training.workers=1")
    assert said.startswith(f"error: no file {bad}") and "\n" not in said


def test_a_file_that_vanishes_in_training_is_skipped_and_reported(config, data, tmp_path, monkeypatch, caplog):
    bad = _a_target_frame(data)
    _vanish_after_the_check(monkeypatch, bad)
    assert exit_of("train_video", config, "data.on_error=skip") == 0
    metrics = (tmp_path / "run" / "self_training" / "metrics.jsonl").read_text().splitlines()
    skipped = [json.loads(line).get("train/data/skipped") for line in metrics]
    counts = [count for count in skipped if count is not None]
    assert len(counts) == 6 and counts == sorted(counts) and counts[-1] == 2, "twelve draws of six frames"
    (said,) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert f"is left out, another takes its place: no file {bad}" in said


def _a_target_frame(data: Path) -> Path:
    return sorted((data / "city" / "leftImg8bit_sequence" / "train").rglob("*.png"))[2]


def test_skipping_trains_on_what_is_left_and_resumes_bit_for_bit(config, data, tmp_path, capsys):
    _cut_off(sorted((data / "viper" / "train" / "img").rglob("*.jpg"))[1])
    _unknown_ids(sorted((data / "viper" / "train" / "cls").rglob("*.png"))[2])
    _cut_off(sorted((data / "city" / "leftImg8bit_sequence" / "train").rglob("*.png"))[4])
    assert exit_of("check_data", config, "data.on_error=skip", "--workers", 0) == 0
    printed = capsys.readouterr().out
    assert "warning: source: cannot read" in printed and "unknown ids 77" in printed
    assert exit_of("train_video", config, "data.on_error=skip") == 0

    loaded = loading.load(config, VideoConfig, ["data.on_error=skip"])
    trainer = tiny.trainer(loaded, "split")
    trainer.fit(until=3)
    assert trainer.counts()["data/skipped"] > 0
    trainer = tiny.trainer(loaded, "split")
    trainer.resume()
    trainer.fit()
    folders = (tmp_path / "run" / "self_training", trainer.folder)
    whole, split = (checkpoint.read(checkpoint.latest(folder)) for folder in folders)
    for name in ("student", "teacher"):
        assert all(torch.equal(value, split[name][key]) for key, value in whole[name].items() if torch.is_tensor(value))


def test_skipping_may_be_turned_on_when_a_run_is_continued(config, data, tmp_path):
    assert exit_of("train_video", config, "training.steps=1") == 0
    assert exit_of("train_video", config, "training.steps=2", "data.on_error=skip", "--resume") == 0
    assert "use stop or skip" in exit_of("train_video", config, "data.on_error=skipp")


def test_evaluation_never_skips(config, data):
    bad = sorted((data / "city" / "leftImg8bit_sequence" / "val").rglob("*_000004_*.png"))[0]
    _cut_off(bad)
    assert str(bad) in exit_of("train_video", config, "data.on_error=skip")


def test_an_image_run_is_checked_as_images(data, tmp_path, capsys):
    reader = f"{{name: folder, images: '{data}/city/leftImg8bit_sequence/train', image_suffix: .png}}"
    labelled = f"{{name: viper, root: '{data}/viper', every: 1}}"
    path = _saved(data, tmp_path, "image", f"target.reader={reader}", f"evaluation.reader={labelled}")
    assert exit_of("check_data", path, "--sample", 2, "--workers", 1) == 0
    printed = capsys.readouterr().out
    assert "neighbours" not in printed and "of these opened 2" in printed
    assert os.listdir(tmp_path / "run") == ["cache"]
