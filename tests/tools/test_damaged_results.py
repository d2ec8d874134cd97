"""A finished run's result that is damaged is an error with the fix, not an empty table."""

from __future__ import annotations

import dataclasses
import json

import pytest

import tiny
from blda import atomic
from blda.build import training_run
from blda.config import loading

WHOLE = {"mIoU": 50.0, "best_on_validation/mIoU": 50.0, "best_on_validation/step": 4.0, "iou/road": None}


@pytest.mark.parametrize(
    "content", ["{}", "[]", "", "3", '{"mIoU": 5', json.dumps({**WHOLE, "mIoU": "high"}), '{"mIoU": 50.0}']
)
def test_a_damaged_result_names_its_file_and_the_fix(tmp_path, content: str) -> None:
    config = tiny.load(tmp_path, tmp_path / "run", "image")
    folder = tmp_path / "run" / config.method
    folder.mkdir(parents=True)
    loading.save(dataclasses.replace(config, compare=()), folder / "config.yaml")
    atomic.write(folder / "result.json", content)
    with pytest.raises(ValueError, match=r"result\.json is damaged; delete it"):
        training_run._result(folder, config)
    atomic.write(folder / "result.json", json.dumps({"protocol": "x", "version": "0.1.0", "commit": "abc", **WHOLE}))
    assert training_run._result(folder, config)["mIoU"] == 50.0
