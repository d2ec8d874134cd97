"""blda import-weights: a published file becomes a checkpoint that is evaluated and trained from."""

from __future__ import annotations

import json
from pathlib import Path

import torch

import published_names as names
import tiny
from blda.build.loss_factory import LossFactory
from blda.data.label_map import CLASS_LISTS
from blda.engine import checkpoint
from blda.models.encoders.mit import MiT
from cli import error_of, tool

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "viper2csseq.yaml"
CLASSES = CLASS_LISTS["cityscapes19"]


def options(worlds: Path, run: Path) -> list[str]:
    encoder = "model.encoder={name: mit, variant: b0, weights: /nowhere/mit_b0.pth}"
    return [*tiny.shrunk(worlds, run), encoder, "training.steps=1", "flow={name: dis}"]


def published(path: Path, classes: int = len(CLASSES), **meta: object) -> Path:
    state = names.filled(names.daformer("b0", classes, 8))
    teacher = {f"ema_model.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": {**{f"model.{k}": t for k, t in state.items()}, **teacher}, "meta": meta}, path)
    return path


def test_an_imported_checkpoint_is_evaluated_and_trained_from(worlds, tmp_path, monkeypatch, capsys):
    file = published(tmp_path / "daformer.pth", CLASSES=CLASSES, iter=40000)
    output, config = tmp_path / "imported" / "step_000000.pt", [CONFIG, *options(worlds, tmp_path / "run")]
    tool("import_weights", file, "--config", *config, "--output", output)
    printed = capsys.readouterr().out
    assert "'model' of" in printed
    assert "after 40000 steps" in printed
    assert "19 classes, as the file names them:\nroad, sidewalk" in printed
    student = checkpoint.read(output)["student"]
    stored = torch.load(file, weights_only=True)["state_dict"]
    assert torch.equal(student["head.classifier.weight"], stored["model.decode_head.conv_seg.weight"])

    tool("evaluate", output)
    scores = json.loads(capsys.readouterr().out)
    assert 0 <= scores["mIoU"] <= 100

    torch.save(MiT("b0").state_dict(), tmp_path / "mit_b0.pth")
    tapped = []
    monkeypatch.setattr(
        LossFactory, "with_feature_distance", lambda self, loss, encoder: tapped.append(encoder) or loss
    )
    rest = ["method=self_training", "compare=[]", f"model.encoder.weights={tmp_path / 'mit_b0.pth'}"]
    rest += ["feature_distance={}", f"model.weights={output}", "optimizer.lr=1e-30"]
    tool("train_video", *config, *rest)
    trained = checkpoint.read(checkpoint.latest(tmp_path / "run" / "self_training"))
    for part in (trained["student"], {name.removeprefix("model."): t for name, t in trained["teacher"].items()}):
        torch.testing.assert_close(part["head.classifier.weight"], student["head.classifier.weight"])
    image_net = torch.load(tmp_path / "mit_b0.pth", weights_only=True)["norm1.weight"]
    assert torch.equal(tapped[0].norm1.weight, image_net), "features stay near ImageNet's, not the imported encoder's"


def test_what_does_not_fit_is_one_line_and_writes_nothing(worlds, tmp_path):
    output = tmp_path / "imported" / "step_000000.pt"
    rest = ["--config", CONFIG, *options(worlds, tmp_path / "run"), "--output", output]
    more = published(tmp_path / "more.pth", classes=15)
    assert "has 15 classes, the config 19" in error_of("import_weights", more, *rest)
    other = published(tmp_path / "other.pth", CLASSES=CLASSES[::-1])
    assert "was trained for other classes" in error_of("import_weights", other, *rest)
    assert "holds no 'imnet_model'" in error_of("import_weights", more, *rest, "--network", "imnet_model")
    assert "none.pth" in error_of("import_weights", tmp_path / "none.pth", *rest)
    assert not output.parent.exists()
    output.parent.mkdir()
    (output.parent / "config.yaml").write_text("run: another\n")
    assert "holds a run" in error_of("import_weights", more, *rest)
