"""benchmarks/step_time.py on the smallest network: its parts, and that they add up."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import torch

from blda.selftraining.teacher import Teacher
from part_clock import PartClock, watched
from step_time import measured

CONFIG = Path(__file__).parents[2] / "configs" / "viper2csseq.yaml"
SMALL = [
    "model.encoder={name: small, channels: [8, 8, 8, 8]}",
    "model.head={name: daformer, embed: 8}",
    "source.crop=[64,64]",
    "target.crop=[64,64]",
    "feature_distance=null",
    "training.precision='no'",
]


def test_a_video_step_is_taken_apart_without_data_or_weights():
    options = ["self_training.masked={block: 16}", "blda.min_pixels=8"]
    report = measured(CONFIG, [*SMALL, *options], 2, True)
    assert report["mode"] == "video"
    parts = report["parts"]
    losses = ("source forward", "source loss", "source backward", "mixed forward", "mixed loss", "mixed backward")
    over_time = ("teacher", "teacher on context", "labels", "flow warps", "rule", "statistics", "alignment")
    others = ("data", "mixing", "augmentation", "masked forward", "masked backward", "optimizer", "EMA", "rest")
    assert {*losses, *over_time, *others} <= parts.keys()
    assert sum(part["ms"] for part in parts.values()) == pytest.approx(report["step_ms"], rel=0.5)
    assert all(0 <= group["share"] <= 1 for group in report["groups"].values())
    if sys.platform == "linux":
        assert all(part["peak_MB"] > 0 for part in parts.values())
    assert type(Teacher.update).__name__ == "function", "what was watched is put back"


def test_what_cannot_be_measured_is_an_error():
    with pytest.raises(ValueError, match=r"source.crop is null"):
        measured(CONFIG, [*SMALL, "source.crop=null", "source.resize=null"], 1, True)
    with pytest.raises(ValueError, match="at least 1"):
        measured(CONFIG, [], 0, True)
    with pytest.raises(ValueError, match="classifier_run"):
        measured(CONFIG.with_name("visda17.yaml"), ["training.precision='no'"], 1, True)


def test_parts_are_without_the_parts_they_call_and_can_be_renamed(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    def pass_by(seconds: float) -> None:
        nonlocal now
        now += seconds

    class Work:
        def outer(self) -> str:
            pass_by(0.02)
            return self.inner(3)

        def inner(self, number: int) -> str:
            pass_by(0.05)
            return "x" * number

    clock, work = PartClock(torch.device("cpu")), Work()
    with watched((Work, "inner"), clock, "inner"), watched((work, "outer"), clock, lambda: "outer"):
        with clock.part("rest"):
            assert work.outer() == "xxx"
        clock.rename("inner", "deepest")
        taken = clock.taken()
    assert taken == pytest.approx({"rest": 0, "outer": 20, "deepest": 50})
    assert clock.taken() == {}
    assert work.inner(1) == "x"
