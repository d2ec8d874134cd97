"""Runs of two resolutions keep the promises of `test_contracts`, and clips follow the whole crop."""

from __future__ import annotations

import pytest
import torch

import tiny
from blda.config import loading
from blda.config.classification import ClassifyConfig
from blda.models.encoders.small import SmallEncoder
from blda.models.heads.daformer import DAFormerHead
from blda.models.heads.segformer import SegFormerHead
from blda.models.hrda import HRDA
from blda.selftraining.teacher import Teacher
from blda_video.clips.clip import Clip
from blda_video.propagation.averaging_rules import KeyAlone, Trajectory
from blda_video.propagation.propagated_labels import ClipLabels, PropagatedLabels
from blda_video.propagation.rule import Rule
from blda_video.street_world import rehearsal

HRDA_ON = (
    "model.hrda={attention: {name: segformer, embed: 8, norm: group}, windows: 8}",
    "model.encoder.channels=[8, 8, 8, 16]",  # a group norm needs two values, and the context ends at 1 x 1
)


@pytest.mark.parametrize(
    ("mode", "method"),
    [("image", "source_only"), ("image", "self_training"), ("image", "reweighted"), ("video", "blda")],
)
def test_resumed_run_equals_uninterrupted_one_bit_for_bit(worlds, tmp_path, mode, method):
    config = tiny.load(worlds, tmp_path, mode, *HRDA_ON, f"method={method}", "training.steps=2")
    whole = tiny.trainer(config, "whole")
    assert whole.fit()["mIoU"] >= 0
    assert any(name.startswith("student/attention.") for name in tiny.states(whole))
    tiny.trainer(config, "split").fit(until=1)
    resumed = tiny.trainer(config, "split")
    resumed.resume()
    resumed.fit()
    assert tiny.differences(tiny.states(whole), tiny.states(resumed)) == []


def test_clip_without_context_is_an_image_bit_for_bit(worlds, tmp_path):
    image = tiny.trainer(tiny.load(worlds, tmp_path, "image", *HRDA_ON), "image")
    clip = tiny.trainer(tiny.load(worlds, tmp_path, "video", *HRDA_ON, "offsets=[]", "consistency=[]"), "clip")
    for trainer in (image, clip):
        trainer.fit(until=1)
    assert tiny.differences(tiny.states(image), tiny.states(clip)) == []


def test_twenty_steps_of_video_learn_and_are_evaluated(worlds, tmp_path):
    more = ("method=self_training", "training.steps=20", "model.encoder.norm=batch", "model.hrda.attention.norm=batch")
    trainer = tiny.trainer(tiny.load(worlds, tmp_path, "video", *HRDA_ON, "log.every=20", *more), "twenty")
    before = tiny.states(trainer)
    scores = trainer.fit()
    assert scores["mIoU"] > 0
    assert "consistency" in scores
    after = tiny.states(trainer)
    for name in ("encoder.stem.0.weight", "head.classifier.weight", "attention.classifier.weight"):
        assert not torch.equal(before[f"teacher/model.{name}"], after[f"teacher/model.{name}"])


def _teacher(norm: str = "batch") -> Teacher:
    torch.manual_seed(0)
    encoder = SmallEncoder(channels=(8, 8, 8, 8), norm=norm)
    head = DAFormerHead(encoder.channels, 4, embed=8, norm=norm)
    torch.nn.init.normal_(head.classifier.weight)
    return Teacher(HRDA(encoder, head, SegFormerHead(encoder.channels, 4, embed=8, norm=norm), (16, 24)))


def _clip(key: torch.Tensor, context: torch.Tensor) -> Clip:
    count = context.shape[1]
    size = key.shape[-2:]
    return Clip(
        image=key,
        label=None,
        name=("a", "b"),
        draw=(0, 1),
        context=context,
        flow=torch.zeros(2, count, 2, *size),
        valid=torch.ones(2, count, *size, dtype=torch.bool),
        offset=tuple(range(1, count + 1)),
    )


def _labels(rule: Rule, clip: Clip, observe: bool = True) -> tuple[ClipLabels, list[torch.Tensor]]:
    """Pseudo-labels of a fresh teacher, and the logits of each of its calls."""
    teacher, calls = _teacher(), []

    def recorded(image: torch.Tensor) -> torch.Tensor:
        calls.append(teacher(image))
        return calls[-1]

    return PropagatedLabels(rule, 0.3, observe=observe)(recorded, clip), calls


def test_beliefs_of_a_clip_meet_on_the_whole_crop():
    """With the key itself as context and no motion, both say the same everywhere."""
    key = torch.rand(2, 3, 32, 48)
    labels, calls = _labels(Trajectory(), _clip(key, key[:, None].expand(-1, 2, -1, -1, -1)))
    alone, _ = _labels(KeyAlone(), _clip(key, key[:, None]), observe=False)
    first, second = alone.probabilities.topk(2, 1).values.unbind(1)
    clear = first - second > 1e-3  # a pulled belief differs by rounding, which decides between classes that tie
    assert clear.float().mean() > 0.9 and torch.equal(labels.label[clear], alone.label[clear])
    assert [tuple(logits.shape) for logits in calls] == 3 * [(2, 4, 32, 48)]
    assert torch.equal(calls[0], calls[1])
    assert torch.equal(calls[0], calls[2])


def test_what_the_context_shows_does_not_touch_the_key():
    key = torch.rand(2, 3, 32, 48)
    (quiet, first), (loud, second) = (
        _labels(KeyAlone(), _clip(key, context))
        for context in (torch.zeros(2, 1, 3, 32, 48), torch.rand(2, 1, 3, 32, 48))
    )
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])
    assert torch.equal(quiet.label, loud.label)
    assert torch.equal(quiet.weight, loud.weight)


def test_a_classifier_refuses_two_resolutions(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(
        "run: r\nclassification: {}\nclasses: [a, b]\nsource: {reader: {name: class_folders, images: x}}\n"
        "target: {reader: {name: class_folders, images: x}}\nevaluation: {reader: {name: class_folders, images: x}}\n"
        "model: {encoder: {name: small}, head: {name: linear}, hrda: {}}\n"
    )
    with pytest.raises(ValueError, match=r"model.hrda: a classifier"):
        loading.load(path, ClassifyConfig)


def test_a_rehearsal_has_windows_of_its_own_crop(worlds, tmp_path):
    config = tiny.load(worlds, tmp_path, "image", *HRDA_ON, "source.rare=null")
    small = rehearsal.changes(config, tmp_path, 0.5, {role: [{}] for role in ("source", "target", "evaluation")})
    assert small["model"]["hrda"] == {"attention": {"name": "segformer", "embed": 16}, "detail": None}
