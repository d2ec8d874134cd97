"""The check and the run agree, and what a user's files and names mean is what the tools take them for."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blda.data import file_handles
from blda.data.checks.dataset_check import CheckScope
from blda.engine import checkpoint
from cli import error_of, exit_of, tool

COLOURS = np.array([[120, 160, 220], [110, 110, 110], [200, 60, 40]], np.uint8)
NOT_UTF8 = os.fsdecode(b"stra\xdfe")


def make(root: Path) -> Path:
    """A labelled source of 12, a target of 6 and a validation set of 4 images of three classes, and their config."""
    for part, count in (("src", 12), ("tgt", 6), ("val", 4)):
        for i in range(count):
            label = np.zeros((48, 64), np.uint8)
            label[24:] = 1
            label[20:32, 4 * i : 4 * i + 12] = 2
            for kind, pixels, suffix in (("images", COLOURS[label], "jpg"), ("labels", label, "png")):
                (root / part / kind / "drive").mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / part / kind / "drive" / f"{i:04d}.{suffix}")
    reader = "{name: folder, images: %s/images, labels: %s/labels, ids: {0: sky, 1: road, 2: car}}"
    (root / "base.yaml").write_text(f"""
run: {root}/run
method: source_only
classes: [sky, road, car]
source: {{reader: {reader % (root / "src", root / "src")}, crop: [32, 32]}}
target: {{reader: {{name: folder, images: {root}/tgt/images}}, crop: [32, 32]}}
evaluation: {{reader: {reader % (root / "val", root / "val")}, every: 100}}
model:
  encoder: {{name: small, channels: [8, 8, 8, 8], norm: group}}
  head: {{name: daformer, embed: 8, norm: group}}
optimizer: {{lr: 1e-2, warmup: 1}}
training: {{steps: 2, batch: 2, workers: 0, checkpoint_every: 100}}
log: {{every: 1, pictures: 100, bar: false}}
""")
    return root / "base.yaml"


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("sound")).parent


@pytest.fixture(scope="module")
def trained(sound: Path) -> Path:
    """A checkpoint."""
    tool("train_image", sound / "base.yaml", f"run={sound / 'trained'}")
    return checkpoint.latest(sound / "trained" / "source_only")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return make(tmp_path)


def relabel(folder: Path, ids: dict[int, int]) -> None:
    """Give labels other ids."""
    for path in folder.rglob("*.png"):
        old = np.asarray(Image.open(path))
        Image.fromarray(np.vectorize(ids.__getitem__)(old).astype(np.uint8)).save(path)


VOID = {0: 255, 1: 255, 2: 255}
MASKS = {0: 0, 1: 255, 2: 255}


@pytest.mark.parametrize("part", ["src", "val"])
def test_no_labelled_pixel_is_an_error_of_check_and_run(part: str, config: Path, capsys) -> None:
    relabel(config.parent / part, VOID)
    count = 12 if part == "src" else 4
    text = f"none of {count} labels shows a class of the run; check ids"
    assert exit_of("check_data", config, "--workers", 0) == 1
    assert text in capsys.readouterr().out
    assert text in error_of("train_image", config)
    assert not [*(config.parent / "run").rglob("*.jsonl"), *(config.parent / "run").rglob("*.pt")]


def test_an_evaluation_without_labels_is_no_result(trained: Path, config: Path) -> None:
    relabel(config.parent / "val", VOID)
    reader = [f"evaluation.reader.{kind}={config.parent}/val/{kind}" for kind in ("images", "labels")]
    said = error_of("evaluate", trained, *reader)
    assert "no pixel of the evaluation is labelled with a class of protocol all" in said


def test_binary_masks_have_a_sentence_of_their_own(config: Path, capsys) -> None:
    relabel(config.parent, MASKS)
    ids = ["classes=[background, road]"]
    ids += [f"{part}.reader.ids={{0: background, 1: road, 2: road}}" for part in ("source", "evaluation")]
    declared = [f"{part}.reader.ids={{0: background, 255: road}}" for part in ("source", "evaluation")]
    declared += [f"{part}.reader.ignored=[]" for part in ("source", "evaluation")]
    text = "the labels hold 0 and 255 alone, as binary masks do, and 255 is ignored: declare it"
    assert text in error_of("train_image", config, *ids)
    assert exit_of("check_data", config, *ids, "--workers", 0) == 1
    assert text in capsys.readouterr().out
    config.write_text(config.read_text().replace("ids: {0: sky, 1: road, 2: car}", "ids: {0: background, 255: road}"))
    tool("train_image", config, "classes=[background, road]", *declared[2:])


def test_a_class_that_is_never_shown_stops_the_run_or_is_told(config: Path, capsys, caplog) -> None:
    relabel(config.parent, {0: 0, 1: 1, 2: 1})
    text = "source data: the run has car, which none of 12 labels shows; leave them out of classes and protocols"
    assert text in error_of("train_image", config)
    assert exit_of("check_data", config, "--workers", 0) == 1
    capsys.readouterr()

    warn = "data.on_unseen=warn"
    assert exit_of("check_data", config, warn, "--workers", 0) == 0
    warnings = re.findall(r"^warning: .*$", capsys.readouterr().out, re.MULTILINE)
    assert len(warnings) == 2
    with caplog.at_level(logging.WARNING):
        tool("train_image", config, warn)
    assert {*warnings} <= {record.getMessage() for record in caplog.records}, "the run says what the check says"
    result = json.loads((config.parent / "run/source_only/result.json").read_text())
    assert result["protocol_classes"] == 3 and result["mAcc_classes"] == 2
    if result["mIoU_classes"] < 3:
        assert "mIoU is the mean over 2 of 3 classes; the labels lack car" in capsys.readouterr().out


def test_a_class_that_no_protocol_scores_may_be_missing(config: Path) -> None:
    relabel(config.parent, {0: 0, 1: 1, 2: 1})
    tool("train_image", config, "evaluation.protocols=[{name: two, classes: [sky, road]}]")


def test_a_handful_of_images_may_lack_a_class(config: Path) -> None:
    relabel(config.parent, {0: 0, 1: 1, 2: 1})
    for path in sorted((config.parent / "src").rglob("*.*"))[::3]:
        number = int(path.stem)
        if number >= 5:
            path.unlink()
    for path in (config.parent / "src").rglob("*.*"):
        if int(path.stem) >= 5:
            path.unlink()
    tool("train_image", config)


def test_check_and_run_tell_what_was_left_out(config: Path, capsys, caplog) -> None:
    shutil.copy(config.parent / "tgt/images/drive/0000.jpg", config.parent / "tgt/images/drive/other.jpeg")
    assert exit_of("check_data", config, "method=self_training", "--workers", 0) == 0
    (line,) = re.findall(r"^warning: .*$", capsys.readouterr().out, re.MULTILINE)
    assert "1 in .jpeg are left out, because .jpg is asked for" in line
    with caplog.at_level(logging.WARNING):
        tool("train_image", config, "method=self_training")
    assert line in [record.getMessage() for record in caplog.records]


def test_what_systems_add_to_folders_is_predicted_by_nobody(trained: Path, config: Path) -> None:
    frames = config.parent / "tgt/images/drive"
    for name in (".ipynb_checkpoints/0000-checkpoint.jpg", "@eaDir/0000.jpg/SYNOPHOTO_THUMB_M.jpg"):
        (frames / name).parent.mkdir(parents=True)
        shutil.copy(frames / "0000.jpg", frames / name)
    (frames / "@eaDir/0001.jpg").mkdir()
    tool("predict_video", trained, frames, "--output", config.parent / "out")
    assert len(list((config.parent / "out").rglob("*.png"))) == 6


@pytest.mark.parametrize("name", [NOT_UTF8, "a" * 251, "전방카메라" * 10, "x y²"])
def test_names_of_any_bytes_and_length_go_through_the_tools(name: str, trained: Path, config: Path) -> None:
    for part, suffix in (("images", "jpg"), ("labels", "png")):
        folder = config.parent / "src" / part / "drive"
        (folder / f"0000.{suffix}").rename(folder / f"{name}.{suffix}")
        folder.rename(folder.with_name(name))
    report = config.parent / "report.json"
    assert exit_of("check_data", config, "--all", "--workers", 0, "--json", report) == 0
    json.loads(report.read_text())
    tool("train_image", config, "source.rare={min_pixels: 10}")
    images = config.parent / "src/images"
    tool("predict_video", trained, images, "--output", config.parent / "out")
    assert (config.parent / "out" / name / f"{name}.png").is_file()
    flow = ["offsets=[-1]", f"flow={{name: store, root: {config.parent}/flow, estimator: dis-ultrafast}}"]
    tool("compute_flow", config, *flow, f"target.reader.images={config.parent}/val/images", "consistency=[]")


def test_a_phone_s_pictures_are_predicted_as_viewers_show_them(trained: Path, config: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    (config.parent / "phone").mkdir()
    upright = Image.open(config.parent / "val/images/drive/0000.jpg")
    upright.transpose(Image.Transpose.ROTATE_90).save(config.parent / "phone/a.JPG", exif=exif, quality=98)
    upright.save(config.parent / "phone/b.jpg", quality=98)
    tool("predict_video", trained, config.parent / "phone", "--output", config.parent / "out")
    first, second = (np.asarray(Image.open(config.parent / f"out/{name}.png")) for name in "ab")
    assert first.shape == second.shape == (48, 64) and (first == second).mean() > 0.95


@pytest.mark.parametrize("name", ["x.avi", "x.WEBM", "x.gif", "x.m4v", "x.png", "x.flac", "x.json"])
def test_an_output_that_is_not_written_is_refused(name: str, trained: Path, sound: Path, tmp_path: Path) -> None:
    said = error_of("predict_video", trained, sound / "val/images", "--output", tmp_path / name)
    assert f"cannot write {tmp_path / name}: no " in said and ".mp4, .mov, .mkv or a folder" in said
    assert not (tmp_path / name).exists()


def test_folders_may_have_dots(trained: Path, sound: Path, tmp_path: Path) -> None:
    tool("predict_video", trained, sound / "val/images", "--output", tmp_path / "run.v2")
    (tmp_path / "x.avi").mkdir()
    tool("predict_video", trained, sound / "val/images", "--output", tmp_path / "x.avi")
    assert len(list(tmp_path.rglob("*.png"))) == 8


@pytest.mark.parametrize("wish", [["--rate", "5"], ["--decay", "0.5"], ["--flow", "dis-medium"]])
def test_a_wish_that_nothing_could_follow_is_refused(
    wish: list[str], trained: Path, sound: Path, tmp_path: Path
) -> None:
    assert wish[0] in error_of("predict_video", trained, sound / "val/images", "--output", tmp_path / "out", *wish)


def test_a_shell_s_pattern_of_images_is_no_config(trained: Path, sound: Path, tmp_path: Path) -> None:
    images = sorted((sound / "val/images/drive").iterdir())
    said = error_of("predict_video", trained, *images, "--output", tmp_path / "out")
    assert f"{images[1]} is one image more; give the folder" in said


def test_lossy_labels_are_refused_whatever_is_ignored(config: Path, capsys) -> None:
    for path in (config.parent / "src/labels").rglob("*.png"):
        Image.open(path).save(path.with_suffix(".jpg"), quality=75)
    said = error_of("train_image", config, "source.reader.label_suffix=.jpg", "source.reader.ignored=[3,4,5,6,255]")
    assert "0000.jpg is compressed as JPEG, which changes ids; save labels as PNG files" in said


def test_too_few_file_handles_are_told_at_once(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    limits, raised = [64, 64], []
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: raised.append(limit))
    said = error_of("train_image", config, "training.workers=3")
    assert "3 loader processes need about 136 open files, but only 64 are allowed; run: ulimit -n 1024" in said
    assert "ulimit -n" in error_of("check_data", config, "--workers", 4)
    limits[1] = 4096
    file_handles.require_handles(3)
    file_handles.require_handles(0)
    assert raised == [(136, 4096)], "the soft limit is raised as far as need be"


def test_digests_find_what_no_decoder_sees(config: Path, capsys) -> None:
    listing = config.parent / "digests.txt"
    arguments = ("check_data", config, "--all", "--workers", 0, "--digests", listing)
    assert "add --all" in error_of(*arguments[:2], *arguments[3:])
    odd = config.parent / f"src/images/drive/{NOT_UTF8} \\.jpg"
    shutil.copy(config.parent / "src/images/drive/0000.jpg", odd)
    shutil.copy(config.parent / "src/labels/drive/0000.png", str(odd).replace("images", "labels")[:-3] + "png")
    assert exit_of(*arguments) == 0
    assert subprocess.run(["sha256sum", "--quiet", "-c", listing], check=False).returncode == 0
    assert exit_of(*arguments) == 0
    path = config.parent / "src/images/drive/0003.jpg"
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    capsys.readouterr()
    assert exit_of(*arguments) == 1
    assert f"{path} is not the file it was when {listing} was written" in capsys.readouterr().out


def test_labels_counted_for_rare_classes_are_all_looked_at(
    config: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    monkeypatch.setattr("blda.build.run.AT_START", CheckScope(opened=1, labels=1))
    relabel(config.parent / "src", {0: 0, 1: 1, 2: 1})
    rare = "source.rare={min_pixels: 10}"
    assert "the run has car, which none of 12 labels shows" in error_of("train_image", config, rare)
    relabel(config.parent / "src", {0: 0, 1: 2})
    with caplog.at_level(logging.WARNING):
        tool("train_image", config, "source.rare={min_pixels: 1500}", "data.on_unseen=warn", f"run={config.parent}/two")
    assert "source: rare-class sampling never draws sky (at most" in caplog.text
