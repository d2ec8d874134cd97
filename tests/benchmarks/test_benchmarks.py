"""The benchmarks that are also checks, and what the others share."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import golden as golden_benchmark
from cli import ROOT, benchmark
from runs import spread, summary


@pytest.mark.parametrize("name", ["c5", "c19"])
def test_recorded_values_hold_directly_and_by_the_fast_path(shared, name):
    done = benchmark("golden", str(shared / f"golden/blda_reference_{name}.npz"))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["above_promise"] == []
    assert report["direct"]["correction"]["largest"] < 1e-4
    assert report["fast"]["correction"]["99.9%"] < 0.02


def _recorded(classes: int = 3) -> dict[str, np.ndarray]:
    """A file of recorded values, made by the direct evaluation."""
    reference, g = golden_benchmark.reference, torch.Generator().manual_seed(0)

    def mixture(*shape: int) -> tuple[torch.Tensor, ...]:
        weights = torch.rand(*shape, 2, generator=g) + 0.2
        means, variances = 2 * torch.randn(*shape, 2, generator=g), torch.rand(*shape, 2, generator=g) + 0.3
        return weights / weights.sum(-1, keepdim=True), means, variances

    found: dict[str, torch.Tensor] = {}

    def put(prefix: str, parts: tuple[torch.Tensor, ...], suffix: str = "") -> None:
        found.update(
            {f"{prefix}_{n}{suffix}": p for n, p in zip(("weights", "means", "variances"), parts, strict=True)}
        )

    data, start = torch.randn(classes, classes, 50, generator=g), mixture(classes, classes)
    put("em", start, "0")
    for _ in range(3):
        start = reference.em_step(*start, data)
    put("em", start, "3")
    old, new = mixture(classes, classes), mixture(classes, classes)
    put("mom", old, "_old")
    put("mom", new, "_new")
    put("mom", tuple(0.5 * a + 0.5 * b for a, b in zip(old, new, strict=True)))
    anchors, logits = mixture(2), 3 * torch.randn(2, classes, 8, 8, generator=g)
    labels = torch.randint(classes, (2, 8, 8), generator=g)
    labels[0, 0] = 255
    put("anchor", anchors)
    for domain in ("source", "target"):
        own = mixture(classes, classes)
        delta = reference.correction(logits, labels, own, anchors)
        put(domain, own)
        found[f"{domain}_estimated"] = torch.ones(classes, classes, dtype=torch.bool)
        found[f"{domain}_correction"] = delta
        found[f"{domain}_positive_cdf"] = reference.positive_cdf(logits, labels, own)
        per_pixel = torch.nn.functional.cross_entropy(
            logits.double() - 0.1 * delta, labels, ignore_index=255, reduction="none"
        )
        found[f"{domain}_loss"] = per_pixel.mean()
    rows = torch.ones(classes, classes)
    found |= {"em_data": data, "mom_seen": rows, "mom_iterations_since_update": rows, "logits": logits}
    found |= {"labels": labels, "tau": torch.tensor(0.1), "cdf_clip": torch.tensor(0.01)}
    found |= {"mom_iteration": torch.tensor(5), "mom_warmup": torch.tensor(10), "mom_momentum": torch.tensor(1.0)}
    return {name: np.asarray(value) for name, value in found.items()}


def test_golden_takes_any_file_of_the_format_and_fails_on_a_wrong_value(tmp_path):
    values = _recorded()
    np.savez(tmp_path / "right.npz", **values)
    done = benchmark("golden", str(tmp_path / "right.npz"))
    assert done.returncode == 0, done.stdout + done.stderr
    values["target_loss"] = values["target_loss"] + 0.01
    np.savez(tmp_path / "wrong.npz", **values)
    done = benchmark("golden", str(tmp_path / "wrong.npz"))
    assert done.returncode == 1
    assert json.loads(done.stdout)["above_promise"] == ["direct loss", "fast loss"]


def test_golden_names_a_file_that_it_cannot_take(tmp_path):
    np.savez(tmp_path / "other.npz", logits=np.zeros(3))
    done = benchmark("golden", str(tmp_path / "other.npz"))
    assert done.returncode == 1
    assert "other.npz" in done.stderr
    assert "METHOD 9" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_cost_reports_both_kinds_of_batch():
    """In a process of its own, whose memory it reads."""
    options = ["--size", "24", "32", "--classes", "3", "--runs", "1", "--direct-size", "8", "8"]
    command = [sys.executable, str(ROOT / "benchmarks" / "blda_cost.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["source"]["ratio"] > 0
    assert report["mixed"]["balanced_ms"] > 0
    assert report["direct"]["shape"] == [2, 3, 8, 8]


def test_summaries_are_means_and_spreads_of_what_is_known():
    runs = [{"protocol": "p", "mIoU": 1.0, "iou/a": None, "other/x": 1.0}, {"protocol": "p", "mIoU": 3.0, "iou/a": 5.0}]
    assert summary(runs) == {
        "protocol": "p",
        "mIoU": {"mean": 2.0, "min": 1.0, "max": 3.0, "deviation": 1.41},
        "iou/a": {"mean": 5.0, "min": 5.0, "max": 5.0},
    }
    assert spread([4.0]) == {"mean": 4.0, "min": 4.0, "max": 4.0}
