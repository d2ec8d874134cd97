"""Labels carried along flow: a made-up drift is followed, its numbers are those of the pixels, mistakes are told."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import label_carry

SIZE = (64, 96)


@pytest.fixture
def drift(tmp_path) -> tuple[Path, Path]:
    """Four frames of one texture that moves two pixels to the right a frame, with labels that move along."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (SIZE[0] // 4, SIZE[1] // 4 + 4, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    ids = rng.integers(0, 3, (SIZE[0] // 16, SIZE[1] // 16 + 1), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    for kind, picture in (("images", texture), ("labels", ids)):
        (tmp_path / kind).mkdir()
        for t in range(4):
            Image.fromarray(picture[:, 8 - 2 * t : 8 - 2 * t + SIZE[1]]).save(tmp_path / kind / f"{t}.png")
    return tmp_path / "images", tmp_path / "labels"


def _carry(drift: tuple[Path, Path], gap: int, estimator) -> dict:
    images, labels = (sorted(folder.iterdir()) for folder in drift)
    return label_carry.carry(images, {path.stem: path for path in labels}, gap, estimator, 3)


def _shifted(by: int):
    """The drift's true flow, of either direction, where the earlier frame is `by` pixels behind."""

    def flow(image, neighbour):
        ahead = image[..., by:].sub(neighbour[..., :-by]).abs().sum() < 1e-3  # whether the image is the later one
        motion = torch.zeros_like(image[:, :2])
        motion[:, 0] = -by if ahead else by
        return motion

    return flow


@pytest.mark.parametrize("gap", [1, 2])
def test_true_flow_carries_every_label_that_is_in_sight(drift, gap):
    numbers = _carry(drift, gap, _shifted(2 * gap))
    assert numbers["mIoU"] == numbers["mIoU_where_valid"] == 100
    assert numbers["pairs"] == 4 - gap
    outside = 2 * gap / SIZE[1]
    assert numbers["mIoU_outside_wrong"] == pytest.approx(100 * (1 - outside), abs=3)
    assert numbers["valid_share"] == pytest.approx(1 - outside, abs=1e-3)


def test_no_motion_compares_the_labels_as_they_are(drift):
    labels = [torch.from_numpy(np.array(Image.open(path))).long() for path in sorted(drift[1].iterdir())]
    counts = sum(label_carry.confusion(now, past, 3) for past, now in zip(labels, labels[2:], strict=False))
    direct = [
        (sum(((a == c) & (b == c)).sum() for a, b in pairs) / sum(((a == c) | (b == c)).sum() for a, b in pairs)).item()
        for c in range(3)
        for pairs in [list(zip(labels, labels[2:], strict=False))]
    ]
    assert label_carry.mean_iou(counts) == pytest.approx(100 * sum(direct) / 3)
    assert _carry(drift, 2, label_carry.standing)["mIoU"] == pytest.approx(100 * sum(direct) / 3, abs=0.01)


def _measured(monkeypatch, capsys, *arguments: object) -> dict:
    monkeypatch.setattr(sys, "argv", ["label_carry.py", *map(str, arguments)])
    label_carry.main()
    return json.loads(capsys.readouterr().out)


def test_the_command_follows_the_drift_and_prints_json(drift, monkeypatch, capsys):
    folders = ("--images", drift[0], "--labels", drift[1], "--gaps", 1, 2)
    found, still = (_measured(monkeypatch, capsys, *folders, "--flow", name) for name in ("dis_medium", "none"))
    assert found["flow"] == "dis-medium"
    assert list(found["gaps"]) == ["1", "2"]
    assert all(found["gaps"][gap]["mIoU"] > still["gaps"][gap]["mIoU"] for gap in found["gaps"])


def test_mistakes_are_told(drift, tmp_path, monkeypatch, capsys):
    with pytest.raises(ValueError, match=r"gap 4 needs more than the 4 frames"):
        _carry(drift, 4, label_carry.standing)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(drift[1] / "1.png")
    with pytest.raises(ValueError, match=r"1\.png is \(8, 8\), its image \(64, 96\)"):
        _carry(drift, 1, label_carry.standing)
    with pytest.raises(SystemExit, match=r"error: .*nowhere"):
        _measured(monkeypatch, capsys, "--images", drift[0], "--labels", tmp_path / "nowhere")
