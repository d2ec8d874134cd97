"""benchmarks/parity_effect.py: what it varies, and how it compares."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import pytest
import torch
import yaml

import parity_effect
from blda.models.heads.daformer import DAFormerHead
from blda.models.heads.deeplab import DeepLabV2Head


def test_only_depthwise_filters_are_rescaled_to_one_deviation_or_the_other():
    torch.manual_seed(0)
    head = DAFormerHead((8, 8, 8, 8), 3, embed=64)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    for published, fan in ((False, 9), (True, 9 * 256)):
        parity_effect.rescale(head, published)
        changed = {name for name, value in head.state_dict().items() if not torch.equal(value, before[name])}
        filters = [m.weight for m in head.modules() if isinstance(m, torch.nn.Conv2d) and m.groups > 1]
        assert len(changed) <= len(filters) == 3
        assert [each.std().item() for each in filters] == pytest.approx([math.sqrt(2 / fan)] * 3)
    with pytest.raises(ValueError, match="DeepLabV2Head has no depthwise convolution"):
        parity_effect.rescale(DeepLabV2Head((4,), 3), True)


def test_runs_are_listed_as_config_overrides_and_seed_and_collected_again(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(parity_effect, "write_start", lambda *given: written.append(given))
    given = argparse.Namespace(
        output=tmp_path,
        overrides=["training.batch=1"],
        configs=["ablation.yaml"],
        methods=["blda"],
        variants=["before", "both"],
        seeds=[0, 1],
    )
    found = yaml.safe_load(yaml.safe_dump(parity_effect.listed(given), sort_keys=False))["trainings"]
    assert list(found) == [f"ablation_{variant}_{seed}" for seed in (0, 1) for variant in ("before", "both")]
    assert found["ablation_both_1"]["overrides"] == [
        "training.batch=1",
        "self_training.augment=published",
        f"model.weights={tmp_path / 'starts' / 'ablation_published_1.pt'}",
    ]
    assert found["ablation_before_0"]["seeds"] == [0]
    assert [(Path(given[0]).name, given[2]) for given in written] == [
        ("ablation.yaml", False),
        ("ablation.yaml", True),
    ] * 2
    scores = iter([(40.0, True), (41.5, True), (42.0, True), (1.0, False)])
    runs = {}
    for name, entry in found.items():
        value, ended = next(scores)
        runs[f"{name}/blda/{entry['seeds'][0]}"] = {"scores": {"mIoU": value, "mAcc": None}, "to_the_end": ended}
    report = parity_effect.compared(parity_effect.collected(runs))["ablation"]["blda"]
    assert report["before"]["mIoU"]["mean"] == 41.0 and "gain" not in report["before"]
    assert report["both"]["gain"]["by_seed"] == {0: 1.5}
