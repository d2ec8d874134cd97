"""blda show-statistics, on a checkpoint without a network."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
import torch

from blda.balance.logit_statistics import LogitStatistics
from blda.config import loading
from blda.engine import checkpoint
from blda_video.config import VideoConfig
from cli import error_of, tool

ROOT = Path(__file__).parents[2]
SKY = 10


class _Clock:
    def state_dict(self) -> dict[str, int]:
        return {"step": 8}


@pytest.fixture
def run(tmp_path) -> Path:
    """A checkpoint of the demo at step 8, its target without sky, and the bias measured at that step."""
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 19, (4000,), generator=g)
    logits = torch.randn(4000, 19, generator=g) + 4 * torch.nn.functional.one_hot(labels, 19)
    source, target = LogitStatistics(19), LogitStatistics(19)
    source.update(logits, labels)
    target.update(logits + 0.1 * torch.arange(19), torch.where(labels == SKY, 255, labels))
    states = {"trainer": _Clock(), "source_statistics": source, "target_statistics": target}
    checkpoint.save(tmp_path / "step_000008.pt", states)
    config = loading.load(ROOT / "configs" / "demo.yaml", VideoConfig)
    loading.save(config, tmp_path / "config.yaml")
    lines = [
        {"step": 4, "target/bias/road": 9.0},
        {"step": 8, "train/loss/source": 1.0},
        {"step": 8, "target/bias/road": -0.1, "target/bias/car": 0.2, "target/bias/bus": 0.3, "target/bias/sky": None},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "step_000008.pt"


def test_draws_beside_the_checkpoint_or_where_told(run, tmp_path):
    tool("show_statistics", run)
    assert cv2.imread(str(run.with_suffix(".png"))).shape[1] > 1000
    tool("show_statistics", run, "--output", tmp_path / "new" / "few.png", "--classes", "road", "car")
    assert cv2.imread(str(tmp_path / "new" / "few.png")).shape[1] < 1000


def test_prints_the_numbers(run, capsys):
    tool("show_statistics", run, "--json")
    found = json.loads(capsys.readouterr().out)
    assert not run.with_suffix(".png").exists()
    assert found["classes"][SKY] == "sky"
    assert found["tau"] == 0.3
    assert found["updates"] == {"source": 1, "target": 1}
    assert found["estimated"]["target"] == [row != SKY for row in range(19)]
    assert found["median"]["target"][SKY] == [None] * 19
    assert found["median"]["source"][0][0] == pytest.approx(4, abs=0.3)
    assert found["correction_at_median"]["target"][0][0] == pytest.approx(
        found["anchor_quantiles"]["positive"][1] - found["median"]["target"][0][0], abs=1e-4
    )
    measured = found["bias"]["measured"]
    assert measured[0] == -0.1
    assert sum(value is not None for value in measured) == 3
    # The estimate favours later classes more: road, car, bus.
    assert found["bias_rank_correlation"] == pytest.approx(1)


def test_a_step_that_was_not_evaluated_has_no_measured_bias(run, capsys):
    (run.parent / "metrics.jsonl").unlink()
    tool("show_statistics", run, "--json", "--output", run.with_suffix(".svg"))
    found = json.loads(capsys.readouterr().out)
    assert found["bias"]["measured"] == [None] * 19
    assert found["bias_rank_correlation"] is None
    assert b"<svg" in run.with_suffix(".svg").read_bytes()


def test_says_in_one_line_what_is_wrong(run):
    assert "no class cart; the run has road" in error_of("show_statistics", run, "--classes", "cart")
    assert "Format 'doc' is not supported" in error_of("show_statistics", run, "--output", run.with_suffix(".doc"))
    assert not run.with_suffix(".doc").exists()
    other = run.with_name("step_000009.pt")
    checkpoint.save(other, {"trainer": _Clock(), "student": torch.nn.Linear(1, 1)})
    said = error_of("show_statistics", other)
    assert "holds no logit statistics, only trainer, student; method=blda keeps them" in said
    assert "no checkpoint at" in error_of("show_statistics", run.with_name("step_000010.pt"))
