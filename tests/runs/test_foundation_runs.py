"""Runs with a foundation distance: what it composes with, what is saved of it, and mistakes in its config."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

import tiny
from blda.engine import checkpoint, runtime

HRDA = (
    "model.hrda={attention: {name: segformer, embed: 8, norm: group}, windows: 8}",
    "model.encoder.channels=[8, 8, 8, 16]",  # a group norm needs two values, and the context ends at 1 x 1
)
COMPANY = {
    "density": [tiny.DENSITY],
    "hrda": HRDA,
    "source": ["foundation_distance.domains=source"],
    "target": ["foundation_distance.domains=target"],
    "self_training": ["method=self_training", "self_training.masked={block: 8}"],
    "everything": ["optimizer.layer_decay=0.5", "training.checkpointing=true", "training.accumulate=2"],
}


@pytest.fixture(scope="module")
def foundation(tmp_path_factory) -> str:
    """Override for a distance to a small ViT, whose random weights stand for a foundation model's."""
    path = tmp_path_factory.mktemp("foundation") / "vit.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit").state_dict(), path)
    return f"foundation_distance={{size: [32, 32], encoder: {{name: vit_pyramid, model: test_vit, weights: {path}}}}}"


@pytest.mark.parametrize("company", COMPANY)
@pytest.mark.parametrize("mode", tiny.MODES)
def test_a_run_resumes_bit_for_bit(worlds, tmp_path, foundation, mode, company):
    config = tiny.load(worlds, tmp_path, mode, foundation, *COMPANY[company])
    whole = tiny.trainer(config, "whole")
    whole.fit()
    resumed = tiny.resumed(config)
    states = tiny.states(whole)
    assert tiny.differences(states, tiny.states(resumed)) == []
    assert any(name.startswith("foundation_head/") for name in states)
    logged = set().union(*tiny.lines(whole))
    assert ("train/foundation_distance" in logged) == (company != "target")
    assert ("train/loss/foundation" in logged) == (company != "source")


def test_the_projection_is_a_state_that_matters_and_learns_like_a_head(worlds, tmp_path, foundation):
    config = tiny.load(worlds, tmp_path, "image", foundation)
    whole, cut = tiny.trainer(config, "run"), tiny.trainer(config, "run")
    head = whole.state()["foundation_head"]
    before = {name: value.clone() for name, value in head.state_dict().items()}
    fast = {id(p) for group in whole.optimizer.param_groups if group["peak"] > 1.5e-2 for p in group["params"]}
    assert {id(parameter) for parameter in head.parameters()} <= fast
    whole.fit(until=2)
    assert all(not torch.equal(value, before[name]) for name, value in head.state_dict().items())
    states, objects = checkpoint.read(checkpoint.latest(whole.folder)), cut.state()
    for other in objects.keys() - {"foundation_head"}:
        objects[other].load_state_dict(states[other])
    for trainer in (whole, cut):
        trainer.fit(until=3)
    assert tiny.differences(tiny.states(whole), tiny.states(cut))


def test_the_frozen_encoder_is_neither_learnt_nor_saved(worlds, tmp_path, foundation):
    trainer = tiny.trainer(tiny.load(worlds, tmp_path, "image", foundation), "run")
    frozen = trainer.method.criterion.frozen
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    trainer.fit(until=2)
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    own = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert not own & {id(parameter) for parameter in frozen.parameters()}
    assert not any("frozen" in name for name in tiny.states(trainer))


def test_without_adaptation_there_is_no_distance(worlds, tmp_path, foundation):
    plain, asked = (
        tiny.trainer(tiny.load(worlds, tmp_path, "image", "method=source_only", *extra), name)
        for name, extra in (("plain", []), ("asked", [foundation]))
    )
    for trainer in (plain, asked):
        trainer.fit(until=2)
    assert tiny.differences(tiny.states(plain), tiny.states(asked)) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("foundation_distance={}", r"to pretrained features, but model\.encoder starts at random; .*weights=PATH"),
        (
            "foundation_distance={encoder: {name: vit_pyramid, model: test_vit}}",
            r"but foundation_distance\.encoder starts at random; give foundation_distance\.encoder\.weights=PATH",
        ),
    ],
)
def test_random_features_are_refused_before_the_first_step(worlds, tmp_path, override, message):
    run = tiny.compose(tiny.load(worlds, tmp_path, "image", override), runtime.start("no"))
    with pytest.raises(ValueError, match=message):
        run.prepare(["blda"])


def test_unknown_domains_and_missing_weights_name_the_fix(worlds, tmp_path):
    with pytest.raises(ValueError, match=r"foundation_distance\.domains is 'all'; use source or target or both"):
        tiny.load(worlds, tmp_path, "image", "foundation_distance={domains: all}")
    missing = f"foundation_distance={{encoder: {{name: vit_pyramid, model: test_vit, weights: {Path('no.pth')}}}}}"
    with pytest.raises(FileNotFoundError, match=r"weights 'no\.pth' do not exist"):
        tiny.trainer(tiny.load(worlds, tmp_path, "image", missing), "run")
