"""Every config, trained and evaluated on miniatures of its data by the command that blda make-world prints."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from blda.config import loading
from blda_video.config import VideoConfig
from cli import tool

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SHORT = [
    "training.steps=3",
    "training.workers=0",
    "log={every: 1, pictures: 100, bar: false, trackers: []}",
    "compare=[]",
]


def rehearse(capsys, config: Path, root: Path, *overrides: str) -> tuple[Path, str]:
    """Make the miniature and run the command that is printed; returns the rehearsal's config and what was said."""
    tool("make_world", "--like", config, "--root", root)
    (command,) = capsys.readouterr().out.splitlines()
    program, name, made = shlex.split(command)
    assert (program, name) == ("blda", "train")
    tool(name, made, *SHORT, *overrides)
    return Path(made), capsys.readouterr().out


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_config_trains_and_evaluates_on_its_miniature(config, tmp_path, capsys):
    made, said = rehearse(capsys, config, tmp_path)
    assert made == tmp_path / config.stem / "config.yaml"
    assert said.startswith("protocol ")
    result = json.loads((made.parent / "run" / "blda" / "result.json").read_text())
    assert sum(name.startswith(("iou/", "acc/")) for name in result) > 10
    lines = [json.loads(line) for line in (made.parent / "run" / "blda" / "metrics.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in lines) == 3
    outside = [path for path in tmp_path.iterdir() if path != made.parent]
    assert not outside


OTHERS = {
    "videos and BDD100k": """
run: x
source: {reader: {name: bdd10k, root: data/bdd100k}, crop: [360, 640]}
target:
  reader: {name: videos, root: ../drives, files: 'day/*.mp4', seconds: 0.2, start: 3, spacing: 2}
  crop: [360, 640]
evaluation: {reader: {name: bdd100k, root: data/bdd100k, split: val, ids: data/lists/val.txt, frame: 307}}
model: {encoder: {name: mit, variant: b5, weights: nowhere.pth}, head: {name: daformer}}
offsets: [-3, 2]
flow: {name: dis, preset: fast}
""",
    "owners' CamVid and folders": """
run: x
classes: camvid11
source:
  reader: {name: folder, images: /a/images, labels: /b/ids, image_suffix: .png, ids: {1: road, 2: tree, 3: blob},
           split: /lists/train.txt}
  rename: {blob: car}
  resize: [200, 300]
  crop: [128, 128]
  rare: {}
target: {reader: {name: camvid, root: data/CamVid, split: day}, crop: [128, 128]}
evaluation: {reader: {name: camvid, root: data/CamVid, split: all, sequences: ['0016E5']}}
model: {encoder: {name: resnet}, head: {name: deeplab_v2}}
offsets: [-1, 1]
flow: {name: store, root: data/flow, estimator: some-network}
smoothing: {scale: 1}
""",
    "classes by a list": """
run: x
classification: {}
classes: [cat, dog, cow]
source: {reader: {name: class_folders, images: animals/train}, crop: [100, 100]}
target: {reader: {name: class_folders, images: animals/real, listing: animals/real.txt}, crop: [100, 100]}
evaluation: {reader: {name: class_folders, images: animals/real, listing: animals/real.txt}}
model: {encoder: {name: resnet}, head: {name: linear}}
training: {batch: 16}
""",
}


@pytest.mark.parametrize("name", OTHERS)
def test_readers_that_no_config_here_uses_are_rehearsed_too(name, tmp_path, capsys):
    if "videos" in name:
        pytest.importorskip("av")
    config = tmp_path / "mine.yaml"
    config.write_text(OTHERS[name], encoding="utf-8")
    _, said = rehearse(capsys, config, tmp_path / "set")
    assert said.startswith("protocol ")


def test_a_rehearsal_is_made_anew_but_nothing_else_is_written_over(tmp_path, capsys):
    config, folder = ROOT / "configs" / "visda17.yaml", tmp_path / "visda17"
    folder.mkdir()
    (folder / "precious.txt").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        tool("make_world", "--like", config, "--root", tmp_path)
    assert str(stopped.value.code) == (f"error: {folder} exists and is no rehearsal of a config; choose another --root")
    assert [path.name for path in tmp_path.rglob("*")] == ["visda17", "precious.txt"]
    (folder / "precious.txt").unlink()
    folder.rmdir()
    for _ in range(2):
        tool("make_world", "--like", config, "--root", tmp_path)
        assert not (folder / "run").exists()
        (folder / "run").mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["visda17"]


def test_a_rehearsal_shrinks_what_is_counted_in_pixels_and_keeps_the_rest(tmp_path):
    config = ROOT / "configs" / "viper2csseq.yaml"
    tool("make_world", "--like", config, "--root", tmp_path)
    full, small = (loading.load(path, VideoConfig) for path in (config, tmp_path / "viper2csseq" / "config.yaml"))
    assert (small.source.resize, small.source.crop) == ((90, 160), (64, 64))
    assert (small.self_training.ignore_top, small.self_training.ignore_bottom) == (2, 15)
    assert small.source.rare.min_pixels == round(3000 / 64)
    assert small.flow["estimator"] == "dis-medium"
    same = ("classes", "method", "offsets", "consistency", "rule", "smoothing", "seed", "reweighting")
    assert all(getattr(full, key) == getattr(small, key) for key in same)
    assert small.evaluation.protocols == full.evaluation.protocols
    assert small.training.steps == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: drone, root: x", "no miniature of 'drone'"),
        ("name: viperr, root: x", "did you mean 'viper'?"),
        ("name: viper", "reader viper needs 'root'"),
    ],
)
def test_a_reader_without_miniature_is_named(tmp_path, text, message):
    config = tmp_path / "mine.yaml"
    body = "\n".join(f"{role}: {{reader: {{{text}}}}}" for role in ("source", "target", "evaluation"))
    config.write_text(
        f"run: x\nmodel: {{encoder: {{name: small}}, head: {{name: daformer}}}}\n{body}\n", encoding="utf-8"
    )
    with pytest.raises(SystemExit, match=message):
        tool("make_world", "--like", config, "--root", tmp_path / "set")
    assert not (tmp_path / "set").exists() or not list((tmp_path / "set").iterdir())


def test_layouts_are_written_with_their_usual_splits(tmp_path, capsys):
    for layout, splits in (("gta5", ["train"]), ("camvid", ["train", "val", "test"])):
        tool("make_world", "--layout", layout, "--root", tmp_path / layout, "--sequences", 1, "--frames", 1)
        said = capsys.readouterr().out
        assert [line.split("split ")[1].split(",")[0] for line in said.splitlines()] == splits
    with pytest.raises(SystemExit, match="choose another root"):
        tool("make_world", "--layout", "gta5", "--root", tmp_path / "gta5", "--split", "few")
