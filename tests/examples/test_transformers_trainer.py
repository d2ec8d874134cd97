"""The example for the Trainer of transformers learns, and its checkpoints hold the state of the loss and the teacher."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="pip install '.[test]'")
EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "transformers_trainer.py"))


def test_the_trainer_learns_the_target(tmp_path: Path) -> None:
    model = EXAMPLE["train"](tmp_path, 60, save_every=60)
    assert EXAMPLE["accuracy"](EXAMPLE["model_of"](60)) < 0.5
    assert EXAMPLE["accuracy"](model) > 0.6
    assert model.balanced.source_statistics.updates == model.balanced.target_statistics.updates == 60
    plain = transformers.SegformerForSemanticSegmentation.from_pretrained(tmp_path / "checkpoint-60")
    assert EXAMPLE["accuracy"](plain) == EXAMPLE["accuracy"](model)


def test_a_resumed_training_equals_one_that_never_stopped(tmp_path: Path) -> None:
    whole = EXAMPLE["train"](tmp_path / "whole", 8, save_every=4)
    EXAMPLE["train"](tmp_path / "parts", 8, save_every=4, until=4)
    resumed = EXAMPLE["train"](tmp_path / "parts", 8, save_every=4, resume=True)
    names = whole.state_dict()
    assert {name.split(".")[0] for name in names} == {"segformer", "decode_head", "teacher", "balanced"}
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, names[name]), name
