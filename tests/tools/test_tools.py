"""The commands as a user types them, on a street world of 32 x 64 pixels, and what they say when something is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import tiny
from blda.engine import checkpoint
from cli import error_of, tool

ROOT = Path(__file__).parents[2]


def _viper(worlds: Path, run: Path) -> list[str]:
    return [*tiny.shrunk(worlds, run), "model.encoder={name: small, channels: [8, 8, 8, 8]}", "feature_distance=null"]


def test_viper2csseq_flow_training_evaluation_and_picture(worlds, tmp_path, capsys):
    config, overrides = ROOT / "configs" / "viper2csseq.yaml", _viper(worlds, tmp_path)
    assert "blda compute-flow" in error_of("train_video", config, *overrides, "run=" + str(tmp_path / "x"))
    tool("compute_flow", config, *overrides)
    assert "flows written" in capsys.readouterr().err
    tool("compute_flow", config, *overrides)
    assert "0 flows written" in capsys.readouterr().err

    tool("train_video", config, *overrides)
    printed = capsys.readouterr().out
    assert "protocol viper15" in printed
    assert "motorcycle" in printed
    newest = checkpoint.latest(tmp_path / "blda")
    assert checkpoint.step_of(newest) == 3
    final = json.loads((tmp_path / "blda" / "result.json").read_text())

    tool("evaluate", newest)
    scores = json.loads(capsys.readouterr().out)
    assert scores["mIoU"] == pytest.approx(final["mIoU"])
    assert scores["viper15_uvda/mIoU"] == pytest.approx(final["viper15_uvda/mIoU"])

    tool("evaluate", newest, "--confusion", tmp_path / "confusion.csv", "consistency=[]")
    header, *rows = (tmp_path / "confusion.csv").read_text().splitlines()
    assert len(rows) == header.count(",") and rows[0].startswith("road,")
    capsys.readouterr()
    assert "ends in .png" in error_of("evaluate", newest, "--confusion", tmp_path / "confusion.pdf")

    tool("draw_predictions", newest, "--output", tmp_path / "sheet.png", "--frames", 2)
    height, width, _ = cv2.imread(str(tmp_path / "sheet.png")).shape
    assert width == 3 * 192, "three columns, enlarged until their titles can be read"
    assert height > 2 * 96, "two rows, a line of titles, and a legend"

    assert "holds a run" in error_of("train_video", config, *overrides)
    other = error_of("train_video", config, *overrides, "blda.tau=0.3", "--resume")
    assert "was trained with another blda" in other
    tool("train_video", config, *overrides, "--resume")
    assert capsys.readouterr().out == printed, "a finished run only prints its table again"
    tool("train_video", config, *overrides, "evaluation.protocols=[viper15_uvda]", "--resume")
    assert "protocol viper15_uvda" in capsys.readouterr().out, "what is measured anew is not the old result"


def test_evaluate_takes_any_labelled_folder(worlds, tmp_path, capsys):
    tool("train_video", ROOT / "configs" / "viper2csseq.yaml", *_folder_run(worlds, tmp_path))
    capsys.readouterr()
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.zeros((40, 56, 3), np.uint8))
    label = np.full((40, 56), 7, np.uint8)
    label[:, 28:] = 9
    cv2.imwrite(str(tmp_path / "labels" / "a.png"), label)
    reader = f"name: folder, images: {tmp_path / 'images'}, labels: {tmp_path / 'labels'}, image_suffix: .png"
    options = ["consistency=[]", "evaluation.protocols=[{name: two, classes: [road, sky]}]"]
    newest = checkpoint.latest(tmp_path / "source_only")
    tool("evaluate", newest, f"evaluation.reader={{{reader}, ids: {{7: road}}, ignored: [9]}}", *options)
    printed = capsys.readouterr()
    scores = json.loads(printed.out)
    assert 0 <= scores["two/acc/road"] <= 100
    assert "two/acc/sky" not in scores and None not in scores.values(), "no label shows the sky"
    assert {line.split()[0] for line in printed.err.splitlines()[2:]} >= {"road", "mean"}
    wrong = error_of("evaluate", newest, f"evaluation.reader={{{reader}, ids: {{7: road}}}}", *options)
    assert "a.png holds unknown ids 9" in wrong


def _folder_run(worlds: Path, run: Path) -> list[str]:
    return [*_viper(worlds, run), "method=source_only", "flow={name: dis}"]


@pytest.mark.parametrize("override", ["method=bldaa", "rule=trajectori", "target.reader.root=/nowhere"])
def test_a_mistake_of_the_method_shows_before_the_baseline_is_trained(worlds, tmp_path, override):
    options = [*_viper(worlds, tmp_path), "flow={name: dis}", "compare=[source_only]", override]
    error_of("train_video", ROOT / "configs" / "viper2csseq.yaml", *options)
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optimizer.learning_rate=1"], "unknown key 'learning_rate'"),
        (["model.encoder.channel=[8]"], "small has no 'channel'; did you mean 'channels'?"),
        (["model.encoder.name=smal"], "model.encoder: unknown name 'smal'; did you mean 'small'?"),
        (["source.reader.root=/nowhere"], "/nowhere"),
        (["method=bldaa"], "method: unknown 'bldaa'; did you mean 'blda'?"),
        (["rule=trajectori"], "rule: unknown name 'trajectori'; did you mean 'trajectory'?"),
        (["evaluation.protocols=[viper16]"], "unknown 'viper16'; did you mean 'viper15'?"),
        (["source.crop=[64, 64]", "target.crop=[64, 64]"], "larger than the image"),
        (["classes=[road, rode]"], "the run does not have"),
        (["training.precision=fp32"], "precision"),
        (["log.pictures=0"], "log: pictures is 0; it must be at least 1"),
        (["target.rare={}"], "unknown key 'rare'"),
        (["reweighting.factors={rode: 2}"], "reweighting.factors: no class 'rode'; did you mean 'road'?"),
        (["reweighting.factors={road: -1}"], "road is -1; it must be a number of at least 0"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_run(worlds, tmp_path, overrides, message):
    run = tmp_path / "run"
    config = ROOT / "configs" / "viper2csseq.yaml"
    options = [*_viper(worlds, run), "flow={name: dis}", *overrides]
    assert message in error_of("train_video", config, *options)
    assert not list(run.rglob("*.pt"))


def test_damaged_data_is_named(worlds, tmp_path):
    config = ROOT / "configs" / "viper2csseq.yaml"
    image = next((worlds / "viper").rglob("*.jpg"))
    whole = image.read_bytes()
    for content, message in ((whole[:300], "cannot read"), (_other_size(whole), "but its label")):
        image.write_bytes(content)
        try:
            options = [*_viper(worlds, tmp_path / message.split()[0]), "flow={name: dis}", "training.steps=12"]
            said = error_of("train_video", config, *options)
        finally:
            image.write_bytes(whole)
        assert message in said
        assert image.name in said


def _other_size(jpeg: bytes) -> bytes:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    return cv2.imencode(".jpg", picture[:-4])[1].tobytes()


TOOLS = sorted({path.stem for path in (ROOT / "tools").glob("*.py")})


@pytest.mark.parametrize("name", TOOLS)
def test_help_explains_the_tool(capsys, name):
    with pytest.raises(SystemExit) as stopped:
        tool(name, "--help")
    assert stopped.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) > 8


def test_sigterm_to_the_whole_group_saves_and_the_run_resumes(worlds, tmp_path):
    """As a cluster ends a job: the loaders' processes get the signal too."""
    config = str(ROOT / "configs" / "viper2csseq.yaml")
    options = [*_viper(worlds, tmp_path), "flow={name: dis}", "training.steps=100000", "training.workers=1"]
    command = [sys.executable, str(ROOT / "tools" / "train_video.py"), config, *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open(tmp_path / "output", "w+", encoding="utf-8") as output:
        job = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            metrics, deadline = tmp_path / "blda" / "metrics.jsonl", time.monotonic() + 120
            while not metrics.exists() and job.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
            os.killpg(job.pid, signal.SIGTERM)
            code = job.wait(timeout=60)
        finally:
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)
        output.seek(0)
        said = output.read()
    assert code == 0, said
    assert "continue with --resume" in said
    step = checkpoint.step_of(checkpoint.latest(tmp_path / "blda"))
    assert step >= 1
    tool("train_video", config, *options, f"training.steps={step + 2}", "training.workers=0", "--resume")
    assert checkpoint.step_of(checkpoint.latest(tmp_path / "blda")) == step + 2
