"""Settings that a run is too short for are told before its first step, with a value that is not told again."""

from __future__ import annotations

import dataclasses
import logging
import re

import pytest
import yaml

import tiny
from blda.build.schedule_warnings import schedule_warnings
from blda.config import loading
from blda.config.data_schema import Evaluation, Source, Target
from blda.config.method_schema import Blda, SelfTraining
from blda.config.schema import Config, Log, Model, Optimizer, Training
from blda.engine import runtime
from blda_video.jobs import kinds, shipped_configs

PART = {"name": "x"}
SHORT = Config(
    "run",
    Model(PART, PART),
    Source(PART),
    Target(PART),
    Evaluation(PART, every=200),
    optimizer=Optimizer(lr=2e-3, warmup=50),
    self_training=SelfTraining(momentum=0.99, burn_in=300),
    blda=Blda(warmup=60),
    training=Training(steps=700),
    log=Log(every=20),
)
"""A run of 700 steps that nothing is said about."""
FAULTS = [
    ("optimizer.warmup", 700, True),
    ("optimizer.lr", 6e-5, True),
    ("evaluation.every", 701, True),
    ("log.every", 1000, True),
    ("self_training.burn_in", 700, False),
    ("self_training.momentum", 0.999, False),
    ("blda.warmup", 700, False),
]
"""Key, a value that is too large or too small for the run, and whether source_only is told too."""


def with_key(config: Config, key: str, value: object) -> Config:
    section, name = key.split(".")
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **{name: value})})


def test_a_sound_run_gets_no_warning():
    assert schedule_warnings(SHORT, ("source_only", "self_training", "blda")) == []


@pytest.mark.parametrize(("key", "value", "always"), FAULTS)
def test_each_setting_is_told_once_and_its_fix_works(key, value, always):
    (text,) = schedule_warnings(with_key(SHORT, key, value), ("blda",))
    assert text.startswith(f"{key} is {value:g}")
    assert len(schedule_warnings(with_key(SHORT, key, value), ("source_only",))) == always
    ((fixed, number),) = re.findall(r"([a-z_]+\.[a-z_]+)=([\d.e-]+)", text.split(";")[-1].split(", or ")[-1])
    assert fixed == key
    assert (
        schedule_warnings(
            with_key(SHORT, key, yaml.safe_load(number) if "e-" not in number else float(number)), ("blda",)
        )
        == []
    )


def test_a_pretrained_encoder_may_learn_slowly():
    slow = with_key(SHORT, "optimizer.lr", 6e-5)
    for encoder in ({"name": "mit", "weights": "b5.pth"}, {"name": "timm", "pretrained": True}):
        assert schedule_warnings(with_key(slow, "model.encoder", encoder), ("blda",)) == []
    assert schedule_warnings(with_key(slow, "model.weights", "step_000700.pt"), ("blda",)) == []
    assert schedule_warnings(with_key(slow, "training.steps", 40000), ("blda",)) == []


def test_a_trial_is_not_told_that_it_learns_little():
    run = with_key(with_key(SHORT, "optimizer.lr", 6e-5), "self_training.momentum", 0.999)
    for key, value in {
        "optimizer.warmup": 5,
        "self_training.burn_in": 5,
        "blda.warmup": 5,
        "evaluation.every": 10,
    }.items():
        run = with_key(run, key, value)
    assert len(schedule_warnings(with_key(run, "training.steps", 700), ("blda",))) == 2
    assert schedule_warnings(with_key(run, "training.steps", 20), ("blda",)) == []


def test_statistics_are_updated_once_a_pass():
    warm = with_key(SHORT, "blda.warmup", 1000)
    assert len(schedule_warnings(warm, ("blda",))) == 1
    assert schedule_warnings(with_key(warm, "training.accumulate", 2), ("blda",)) == []
    assert schedule_warnings(warm, ("self_training",)) == []


@pytest.mark.parametrize("name", [path.stem for path in shipped_configs.folder().glob("*.yaml")])
def test_shipped_configs_suit_their_length(name):
    path = shipped_configs.found(name)
    config = loading.load(path, kinds.of_run(path)[0])
    assert schedule_warnings(config, (*config.compare, config.method)) == []


def test_a_run_says_them_before_its_first_step(worlds, tmp_path, caplog):
    config = tiny.load(worlds, tmp_path, "image", "optimizer.warmup=100", "training.steps=50")
    with caplog.at_level(logging.WARNING):
        tiny.compose(config, runtime.start("no")).prepare(["blda"])
    assert "optimizer.warmup is 100 and training.steps 50" in caplog.text
