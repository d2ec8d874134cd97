"""blda rank: labels of the target are never needed, networks that know more come first, mistakes are one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import tiny
from blda.config import loading
from blda.engine import checkpoint
from blda_video.jobs.checkpoint_ranking import rank
from cli import error_of, tool

STEPS = 40


@pytest.fixture(scope="module")
def worlds(tmp_path_factory) -> Path:
    """Worlds without a single label of the target."""
    root = tiny.make_worlds(tmp_path_factory.mktemp("worlds"))
    shutil.rmtree(root / "city" / "gtFine" / "train")
    return root


@pytest.fixture(scope="module")
def run(worlds) -> Path:
    """A run of source_only with its first and its last network, without evaluation."""
    every = f"training={{steps: {STEPS}, batch: 2, workers: 0, checkpoint_every: 1000, keep: 9}}"
    config = tiny.load(worlds, worlds / "run", "video", "method=source_only", every, "evaluation.every=1000")
    folder = worlds / "run" / "source_only"
    loading.save(config, folder / "config.yaml")
    trainer = tiny.trainer(config, "source_only")
    checkpoint.save(checkpoint.path_of(folder, 0), {"student": trainer.student})
    for step in range(STEPS):
        batch, _ = next(iter(trainer.batches(step)))
        loss = torch.nn.functional.cross_entropy(trainer.student(batch.image), batch.label, ignore_index=255)
        trainer.optimizer.zero_grad()
        loss.backward()
        trainer.optimizer.step()
    checkpoint.save(checkpoint.path_of(folder, STEPS), {"student": trainer.student})
    return folder


def test_the_trained_network_is_chosen_without_a_label_of_the_target(run, capsys):
    tool("rank", run.parent, "--images", 4, "log.bar=false")
    said = capsys.readouterr()
    found = json.loads(said.out)
    names = [Path(each["checkpoint"]).name for each in found["checkpoints"]]
    assert names == [f"step_{STEPS:06d}.pt", "step_000000.pt"]
    assert found["chosen"] == found["checkpoints"][0]["checkpoint"]
    assert found["labels_of_target"] == "none"
    assert found["checkpoints"][0]["teacher_mIoU"] is None
    assert found["checkpoints"][0]["temporal_mIoU"] > 0
    assert names[0].removesuffix(".pt") in said.err.splitlines()[1]


def test_single_images_are_ranked_without_flow_and_twice_the_same(run, tmp_path):
    tiny.make_worlds(tmp_path, source=(1, 1), target=(4, 1), validation=(1, 1))
    overrides = [*tiny.roots(tmp_path), "log.bar=false"]
    first, second = (rank([run], overrides, 3) for _ in range(2))
    assert all(torch.tensor(each.criteria["temporal_mIoU"]).isnan() for each in first)
    assert str([each.numbers() for each in first]) == str([each.numbers() for each in second])
    assert first[0].score > first[1].score


def test_mistakes_are_one_line(run, tmp_path):
    assert "give the folder" in error_of("rank", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "holds no step_*.pt" in error_of("rank", tmp_path / "empty")
    assert "--images is 0" in error_of("rank", run, "--images", 0)
    alone = tmp_path / "alone"
    shutil.copytree(run, alone, ignore=shutil.ignore_patterns("step_000000.pt"))
    assert "training.keep" in error_of("rank", alone)
    other = tmp_path / "other"
    shutil.copytree(run, other)
    text = (other / "config.yaml").read_text()
    assert "key_frames: all" in text
    (other / "config.yaml").write_text(text.replace("key_frames: all", "key_frames: labelled"))
    assert "another target.reader" in error_of("rank", run, other)
