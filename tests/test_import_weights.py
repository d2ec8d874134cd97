"""tools/import_weights.py: a published file becomes a checkpoint that is evaluated and trained from."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

import published_names as names
from blda.build import Build
from blda.data.label_space import CLASS_LISTS
from blda.engine import checkpoint
from blda.models.mit import MiT
from blda_video.data.world.writer import WorldSpec, make

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "viper2csseq.yaml"
CLASSES = CLASS_LISTS["cityscapes19"]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("import")
    size = (32, 64)
    make(WorldSpec(root / "viper", "viper", "source", "train", 1, 4, size, seed=1), progress=False)
    make(WorldSpec(root / "city", "cityscapes_seq", "target", "train", 1, 30, size, seed=2), progress=False)
    make(WorldSpec(root / "city", "cityscapes_seq", "target", "val", 1, 3, size, seed=3), progress=False)
    return root


def options(worlds: Path, run: Path) -> list[str]:
    roots = [f"{part}.reader.root={worlds / 'city'}" for part in ("target", "evaluation")]
    return [
        f"run={run}",
        f"source.reader.root={worlds / 'viper'}",
        "source.reader.every=1",
        *roots,
        "model.encoder={name: mit, variant: b0, weights: /nowhere/mit_b0.pth}",
        "model.head={name: daformer, embed: 8}",
        "training={steps: 1, workers: 0, precision: 'no'}",
        "log={every: 1, pictures: 2, bar: false}",
        "source.resize=null",
        "target.resize=null",
        "source.crop=[32, 48]",
        "target.crop=[32, 48]",
        "evaluation.size=null",
        "source.rare.min_pixels=8",
        "flow={name: dis}",
        "consistency=[-1]",
    ]


def tool(monkeypatch, name: str, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    runpy.run_path(str(ROOT / "tools" / f"{name}.py"), run_name="__main__")


def error(monkeypatch, *arguments: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        tool(monkeypatch, "import_weights", *arguments)
    return str(stopped.value.code)


def published(path: Path, classes: int = len(CLASSES), **meta: object) -> Path:
    state = names.filled(names.daformer("b0", classes, 8))
    teacher = {f"ema_model.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": {**{f"model.{k}": t for k, t in state.items()}, **teacher}, "meta": meta}, path)
    return path


def test_an_imported_checkpoint_is_evaluated_and_trained_from(worlds, tmp_path, monkeypatch, capsys):
    file = published(tmp_path / "daformer.pth", CLASSES=CLASSES, iter=40000)
    output, config = tmp_path / "imported" / "step_000000.pt", [CONFIG, *options(worlds, tmp_path / "run")]
    tool(monkeypatch, "import_weights", file, "--config", *config, "--output", output)
    printed = capsys.readouterr().out
    assert "'model' of" in printed
    assert "after 40000 steps" in printed
    assert "19 classes, as the file names them:\nroad, sidewalk" in printed
    student = checkpoint.read(output)["student"]
    stored = torch.load(file, weights_only=True)["state_dict"]
    assert torch.equal(student["head.classifier.weight"], stored["model.decode_head.conv_seg.weight"])

    tool(monkeypatch, "evaluate", output)
    scores = json.loads(capsys.readouterr().out)
    assert 0 <= scores["mIoU"] <= 100

    torch.save(MiT("b0").state_dict(), tmp_path / "mit_b0.pth")
    tapped = []
    monkeypatch.setattr(Build, "with_feature_distance", lambda self, loss, encoder: tapped.append(encoder) or loss)
    rest = ["method=self_training", "compare=[]", f"model.encoder.weights={tmp_path / 'mit_b0.pth'}"]
    rest += ["feature_distance={}", f"model.weights={output}", "optimizer.lr=1e-30"]
    tool(monkeypatch, "train_video", *config, *rest)
    trained = checkpoint.read(checkpoint.latest(tmp_path / "run" / "self_training"))
    for part in (trained["student"], {name.removeprefix("model."): t for name, t in trained["teacher"].items()}):
        torch.testing.assert_close(part["head.classifier.weight"], student["head.classifier.weight"])
    image_net = torch.load(tmp_path / "mit_b0.pth", weights_only=True)["norm1.weight"]
    assert torch.equal(tapped[0].norm1.weight, image_net), "features stay near ImageNet's, not the imported encoder's"


def test_what_does_not_fit_is_one_line_and_writes_nothing(worlds, tmp_path, monkeypatch):
    output = tmp_path / "imported" / "step_000000.pt"
    rest = ["--config", CONFIG, *options(worlds, tmp_path / "run"), "--output", output]
    more = published(tmp_path / "more.pth", classes=15)
    assert "tells 15 classes apart, the config 19" in error(monkeypatch, more, *rest)
    other = published(tmp_path / "other.pth", CLASSES=CLASSES[::-1])
    assert "was trained for other classes" in error(monkeypatch, other, *rest)
    assert "holds no 'imnet_model'" in error(monkeypatch, more, *rest, "--network", "imnet_model")
    assert "none.pth" in error(monkeypatch, tmp_path / "none.pth", *rest)
    assert not output.parent.exists()
    output.parent.mkdir()
    (output.parent / "config.yaml").write_text("run: another\n")
    assert "holds a run" in error(monkeypatch, more, *rest)
