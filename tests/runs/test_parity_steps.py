"""Whole training steps against those that the published code recorded, through our own trainer."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cli import benchmark
from recorded_steps import RecordedSteps
from replay_steps import LIMITS, RecordedNetworks, Replay, losses_apart, replayed, weights_apart

NAMES = ("decode.loss_seg", "decode.hr.loss_seg", "mix.decode.loss_seg", "mix.decode.hr.loss_seg")
MASKED = ("masked.decode.loss_seg", "masked.decode.hr.loss_seg")
FEATURES = "src.loss_imnet_feat_dist"

# lhoyer/MIC at 2f932a9, run on the weights of hrda_tiny.npz and on the images, labels, windows, mask and trusted pixels
# of steps_daformer_tiny.npz: losses of three steps, shares of confident pixels, and the norm of what student and
# teacher moved by, of encoder, head and attention. At this size no feature is of a thing, so the distance is NaN there.
MIC_HRDA = {
    "losses": [
        [2.6146052, 0.2409318, 1.0149438, 0.1512049, 0.0355346, 0.0045893, math.nan],
        [2.5569212, 0.2978847, 0.6304517, 0.1148244, 0.0294660, 0.0034538, math.nan],
        [2.6112034, 0.2915641, 1.2145716, 0.1534542, 0.0978675, 0.0104856, math.nan],
    ],
    "share": [0.0211182, 0.0173340, 0.0568848],
    "student": {"encoder": 0.0380432, "head": 0.1522701, "attention": 0.0660820},
    "teacher": {"encoder": 0.0213738, "head": 0.0860084, "attention": 0.0377209},
}
HRDA = {
    "losses": [
        [2.6146052, 0.2409318, 1.0149438, 0.1512049, math.nan],
        [2.5357037, 0.2848038, 0.6411399, 0.0521710, math.nan],
        [2.6495183, 0.3322782, 1.1543188, 0.1060213, math.nan],
    ],
    "share": [0.0211182, 0.0173340, 0.0561523],
    "student": {"encoder": 0.0379822, "head": 0.1540095, "attention": 0.0678542},
    "teacher": {"encoder": 0.0212773, "head": 0.0865720, "attention": 0.0382827},
}


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


def arrays(shared: Path, name: str) -> dict[str, np.ndarray]:
    with np.load(shared / "golden" / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.fixture
def daformer(shared) -> dict[str, np.ndarray]:
    return arrays(shared, "steps_daformer_tiny")


def of_two_resolutions(shared: Path, names: tuple[str, ...], record: dict) -> RecordedSteps:
    """The recorded images and draws with HRDA's weights, and the losses of the published code on them."""
    steps = {k: v for k, v in arrays(shared, "steps_daformer_tiny").items() if "/" not in k}
    weights = {k: v for k, v in arrays(shared, "hrda_tiny").items() if k.startswith("w/")}
    share = np.array(record["share"], dtype=np.float32)[:, None, None, None]
    weighed = {"pseudo_weight": share * steps["trusted"]}
    return RecordedSteps(
        {**steps, **weights, **weighed, "loss_names": np.array(names), "losses": np.array(record["losses"])}
    )


def test_three_steps_of_daformer_are_the_recorded_ones(daformer):
    report = replayed(RecordedSteps(daformer))
    assert report["steps"] == 3
    assert set(report["losses"]) == {NAMES[0], NAMES[2], FEATURES}
    assert max(report["losses"].values()) <= LIMITS["losses"]
    assert report["student"]["relative_change"] <= LIMITS["student_change"]
    assert report["teacher"]["relative_change"] <= LIMITS["teacher_change"]
    assert report["pseudo_weight"] <= 1e-6


@pytest.mark.parametrize(
    ("names", "record"),
    [((*NAMES, *MASKED, FEATURES), MIC_HRDA), ((*NAMES, FEATURES), HRDA)],
    ids=["mic", "hrda"],
)
def test_three_steps_of_two_resolutions_are_those_of_the_published_code(shared, names, record):
    recorded = of_two_resolutions(shared, names, record)
    run = Replay(recorded)
    assert max(losses_apart(run.losses, recorded.losses).values()) <= LIMITS["losses"]
    assert [weight.max().item() for weight in run.pseudo_weights] == pytest.approx(record["share"], abs=1e-6)
    untrusted = ~torch.as_tensor(recorded.arrays["trusted"])
    assert not any(weight[untrusted].any() for weight in run.pseudo_weights)
    start = RecordedNetworks(run.config, recorded).student(pretrained=False).state_dict()
    for which, network in (("student", run.ended.student), ("teacher", run.ended.method.teacher.model)):
        for part, moved in record[which].items():
            steps = [(p - start[n]).norm() for n, p in network.named_parameters() if n.startswith(part)]
            assert torch.stack(steps).norm().item() == pytest.approx(moved, rel=LIMITS["student_change"]), part


@pytest.mark.parametrize("field", ["losses", "label", "source", "target", "threshold", "w/decode_head.conv_seg.bias"])
def test_a_step_from_other_values_is_noticed(daformer, field):
    if field == "losses":
        daformer[field] = daformer[field] + 1e-4
    elif field == "threshold":
        daformer[field] = np.float64(0.31)
    elif field == "label":
        daformer[field] = np.where(daformer[field] == 3, 4, daformer[field])
    else:
        daformer[field] = np.flip(daformer[field], -1).copy()
    report = replayed(RecordedSteps(daformer))
    assert max(report["losses"].values()) > LIMITS["losses"]


def test_the_first_teacher_of_earlier_versions_is_noticed(daformer):
    """It was a copy of the student after the first step."""
    recorded = RecordedSteps(daformer)
    run = Replay(recorded)
    teacher = run.ended.method.teacher.model
    assert weights_apart(teacher, recorded, "teacher")["relative_change"] <= LIMITS["teacher_change"]
    with torch.no_grad():
        for average, parameter in zip(teacher.parameters(), run.ended.student.parameters(), strict=True):
            average.copy_(parameter)
    assert weights_apart(teacher, recorded, "teacher")["relative_change"] > 10 * LIMITS["teacher_change"]


def test_the_command_prints_differences_and_fails_above_the_limits(daformer, tmp_path):
    np.savez(tmp_path / "right.npz", **daformer)
    done = benchmark("replay_steps", tmp_path / "right.npz")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["above_limit"] == []
    daformer["losses"] = daformer["losses"] + 1e-3
    np.savez(tmp_path / "wrong.npz", **daformer)
    done = benchmark("replay_steps", tmp_path / "wrong.npz")
    assert done.returncode == 1
    assert json.loads(done.stdout)["above_limit"] == ["losses"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pasted": np.array("half of the classes")}, "pasted is 'half of the classes'"),
        ({"rates": np.array("6e-5")}, "rates are '6e-5'"),
        ({"losses": None}, "losses missing"),
        ({"loss_names": np.array(["a", "b", "c"])}, "decode.loss_seg must be among them"),
    ],
)
def test_a_file_that_cannot_be_replayed_is_refused_in_one_line(daformer, tmp_path, change, message):
    kept = {key: value for key, value in {**daformer, **change}.items() if value is not None}
    np.savez(tmp_path / "odd.npz", **kept)
    done = benchmark("replay_steps", tmp_path / "odd.npz")
    assert done.returncode == 1
    assert "odd.npz" in done.stderr
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
