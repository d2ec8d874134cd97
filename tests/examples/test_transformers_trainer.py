"""The example for the Trainer of transformers learns, and its checkpoints hold all state."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="pip install '.[test]'")
EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "transformers_trainer.py"))


def test_the_trainer_learns_the_target(tmp_path: Path) -> None:
    model = EXAMPLE["train"](tmp_path, 60, save_every=60)
    assert EXAMPLE["accuracy"](EXAMPLE["network"]()) < 0.5
    assert EXAMPLE["accuracy"](model.student) > 0.6
    assert model.balanced.source_statistics.updates == model.balanced.target_statistics.updates == 60
    model.student.save_pretrained(tmp_path / "network")
    loaded = transformers.SegformerForSemanticSegmentation.from_pretrained(tmp_path / "network")
    assert EXAMPLE["accuracy"](loaded) == EXAMPLE["accuracy"](model.student)


def test_a_resumed_training_equals_one_that_never_stopped(tmp_path: Path) -> None:
    whole = EXAMPLE["train"](tmp_path / "whole", 8, save_every=4).state_dict()
    EXAMPLE["train"](tmp_path / "parts", 8, save_every=4, until=4)
    resumed = EXAMPLE["train"](tmp_path / "parts", 8, save_every=4, resume=True).state_dict()
    assert {name.split(".")[0] for name in whole} == {"student", "teacher", "balanced"}
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
