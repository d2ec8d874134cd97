"""benchmarks/flow_error.py: its numbers, and the estimators on a pair with truth."""

import json
import sys

import cv2
import numpy as np
import pytest
import torch

import flow_error


def _measured(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["flow_error.py", *map(str, arguments)])
    flow_error.main()
    return json.loads(capsys.readouterr().out)


def test_errors_count_known_pixels_only():
    truth = torch.zeros(2, 2, 4)
    truth[0, 0] = torch.tensor([3.0, 4.0, 0.0, torch.nan])
    flow = torch.zeros(2, 2, 4)
    flow[1, 1, 3] = 6.0
    found = flow_error.errors(flow, truth)
    assert found["pixels"] == 7 and found["mean"] == pytest.approx(13 / 7, abs=1e-3)
    assert found["outliers"] == {"1px": 42.86, "3px": 28.57, "5px": 14.29}
    assert found["still"] == 1.0
    with pytest.raises(ValueError, match="differ in size"):
        flow_error.errors(flow, truth[..., :3])


def test_a_translation(tmp_path, monkeypatch, capsys):
    noise = cv2.resize(np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8), (128, 64))
    cv2.imwrite(str(tmp_path / "a.png"), noise[:, 8:104])
    cv2.imwrite(str(tmp_path / "b.png"), noise[:, 6:102])
    np.save(tmp_path / "truth.npy", np.tile(np.array([20, 0], np.int16), (64, 96, 1)))
    pair = ("--first", tmp_path / "a.png", "--second", tmp_path / "b.png", "--truth", tmp_path / "truth.npy")
    found = _measured(monkeypatch, capsys, *pair, "--flow", "{name: dis, preset: fast}")
    assert found["flow"] == "dis-fast" and found["still"] == 2 and found["mean"] < 0.5
    with pytest.raises(SystemExit, match="unknown name 'sift'"):
        _measured(monkeypatch, capsys, *pair, "--flow", "sift")


@pytest.mark.parametrize(("flow", "most"), [("dis-medium", 2.8), ("{name: raft, weights: WEIGHTS}", 1.2)])
def test_a_real_pair(shared, monkeypatch, capsys, flow, most):
    folder, weights = shared / "data/flow", shared / "weights/raft_small.pth"
    if not (folder / "00001_flow.flo").is_file() or not weights.is_file():
        pytest.skip(f"no pair with truth in {folder}, or no weights {weights}")
    pair = ("--first", folder / "00001_img1.ppm", "--second", folder / "00001_img2.ppm")
    flow = flow.replace("WEIGHTS", str(weights))
    found = _measured(monkeypatch, capsys, *pair, "--truth", folder / "00001_flow.flo", "--flow", flow)
    assert found["mean"] < most and found["pixels"] == 384 * 512
