"""`blda export` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

import blda
import onnx_export
from blda.balance.alignment import Alignment
from blda.balance.logit_grid import BINS
from blda.calibration.calibration_file import Calibration
from blda.config import loading
from blda.engine import checkpoint
from blda_video.jobs import kinds
from cli import error_of, exit_of, tool
from tiny import runtime
from trained import CLASSES, checkpoint_in


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    return checkpoint_in(tmp_path_factory.mktemp("run"), "video", "evaluation.flip=true")


def test_onnx_of_a_run_with_calibration_is_what_blda_load_predicts(saved, tmp_path, capsys):
    onnx_export.skip_without()
    generator = torch.Generator().manual_seed(0)
    lookup = 8 * torch.rand(3, 3, BINS, generator=generator).sort().values - 4
    Calibration(Alignment(lookup, torch.ones(3, dtype=torch.bool)), 0.5, CLASSES).save(tmp_path / "calibration.pt")
    tool("export", saved.parent, "--size", 32, 48, "--calibration", tmp_path / "calibration.pt")
    printed = json.loads(capsys.readouterr().out)
    assert printed["output"] == str(saved.with_suffix(".onnx"))
    assert printed["largest_difference"] < printed["limit"] == 1e-3
    assert printed["calibration"] == "tau 0.5"
    assert printed["left_out"] == ["evaluation.flip"]

    import onnxruntime

    session = onnxruntime.InferenceSession(printed["output"])
    pixels = torch.randint(0, 256, (32, 48, 3), generator=generator, dtype=torch.uint8).numpy()
    image = pixels.transpose(2, 0, 1)[None].astype("float32") / 255
    (scores,) = session.run(["scores"], {"image": image})
    segmenter = blda.load(saved, calibration=tmp_path / "calibration.pt", flip=False)
    assert (scores.argmax(1)[0] == segmenter.predict(pixels).labels).mean() > 0.99
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(CLASSES)


def test_torch_export_of_a_classifier(tmp_path, capsys):
    photos = {"reader": {"name": "class_folders", "images": str(tmp_path)}}
    settings = {
        "run": str(tmp_path),
        "classes": ["cat", "dog"],
        "classification": {},
        **{domain: {**photos, "crop": [32, 32]} for domain in ("source", "target")},
        "evaluation": {**photos, "size": [32, 32]},
        "model": {"encoder": {"name": "small", "channels": [8, 8, 8, 8]}, "head": {"name": "linear"}},
    }
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    kind, compose = kinds.of_run(config)
    student = compose(loading.load(config, kind), runtime.start("no")).networks.student(pretrained=False)
    checkpoint.save(tmp_path / "step_000001.pt", {"student": student})
    tool("export", tmp_path / "step_000001.pt", "--format", "torch.export", "--output", tmp_path / "net.pt2")
    assert json.loads(capsys.readouterr().out)["largest_difference"] < 1e-3
    assert torch.export.load(tmp_path / "net.pt2").module()(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


def test_mistakes_are_one_line(saved, tmp_path, capsys, monkeypatch):
    onnx_export.skip_without()
    assert "give --size HEIGHT WIDTH" in error_of("export", saved, "--output", tmp_path / "x")
    assert "no checkpoint" in error_of("export", tmp_path / "nothing.pt", "--size", 32, 32)
    missing = ("export", saved, "--size", 32, 32, "--calibration", tmp_path / "missing.pt")
    assert "no calibration file" in error_of(*missing)
    assert exit_of("export", saved, "--size", 32) == 2

    from blda.deploy import network_export

    capsys.readouterr()
    monkeypatch.setattr(network_export, "LIMIT", -1.0)
    said = error_of("export", saved, "--size", 32, 32, "--format", "torch.export", "--output", tmp_path / "net.pt2")
    assert "differs from the checkpoint" in said
    assert json.loads(capsys.readouterr().out)["output"] is None
    assert not (tmp_path / "net.pt2").exists()
