"""Runs on several sources and targets: samples, counts, checks and training, image and video."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

import blda
import tiny
from blda.build.data_examination import examine
from blda.build.run import Run
from blda.config import loading
from blda.config.schema import Config
from blda.data.checks.data_report import as_json, as_text, require
from blda.data.checks.dataset_check import CheckScope
from blda.data.draws import Draw
from blda.deploy.model_card import model_card
from blda.engine import runtime
from blda_video.config import VideoConfig
from blda_video.jobs import kinds
from several_data_sets import CITY, GAME, SOURCES, TARGETS, VIDEO, VIPER, load


def composed(config: Config) -> Run:
    return tiny.compose(config, runtime.start("no"))


@pytest.mark.parametrize("mode", tiny.MODES)
def test_a_list_of_one_is_no_list_bit_for_bit(worlds, tmp_path, mode):
    single = tiny.trainer(tiny.load(worlds, tmp_path / "single", mode), "run")
    text = f"source: [{{reader: {VIPER}, share: 1.0}}]\ntarget: [{{reader: {VIDEO}}}]"
    listed = tiny.trainer(load(worlds, tmp_path, mode, text), "run")
    for trainer in (single, listed):
        trainer.fit(until=2)
    assert tiny.differences(tiny.states(single), tiny.states(listed)) == []
    losses = [[(line["step"], line["train/loss/mixed"]) for line in tiny.lines(each)] for each in (single, listed)]
    assert losses[0] == losses[1] and len(losses[0]) == 2


@pytest.mark.parametrize("mode", tiny.MODES)
def test_a_resumed_run_on_several_data_sets_equals_an_uninterrupted_one(more_worlds, tmp_path, mode):
    config = load(more_worlds, tmp_path, mode, f"{SOURCES}\n{TARGETS}")
    whole = tiny.trainer(config, "whole")
    assert whole.fit()["mIoU"] >= 0
    resumed = tiny.resumed(config)
    assert tiny.differences(tiny.states(whole), tiny.states(resumed)) == []


def test_a_run_on_several_data_sets_is_known_by_its_config_and_its_network_loads(more_worlds, tmp_path):
    config = load(more_worlds, tmp_path, "video", f"{SOURCES}\n{TARGETS}")
    trainer = tiny.trainer(config, "run")
    trainer.save()
    loading.save(config, trainer.folder / "config.yaml")
    assert loading.load(trainer.folder / "config.yaml", VideoConfig) == config
    assert kinds.of_run(trainer.folder / "config.yaml")[0] is VideoConfig
    segmenter = blda.load(trainer.folder, overrides=["source.1.reader.root=/elsewhere"])
    assert torch.equal(next(segmenter.network.parameters()), next(trainer.student.parameters()))
    assert "source viper + gta5, target cityscapes_seq + gta5" in model_card(segmenter, "a")


def test_an_unreadable_frame_is_replaced_by_one_of_its_data_set(more_worlds, tmp_path):
    config = load(more_worlds, tmp_path, "image", SOURCES, "source.rare=null", "data.on_error=skip")
    run = composed(config)
    broken = run.data.member("source", 1).reader.frames[0].image
    kept = broken.read_bytes()
    broken.write_bytes(b"no image")
    try:
        batches = islice(run.batches.batches(adapts=False)(0), 50)
        names = Counter(name for source, _ in batches for name in source.name)
    finally:
        broken.write_bytes(kept)
    assert sum(count for name, count in names.items() if name.startswith("gta5/")) == 30
    assert len([name for name in names if name.startswith("gta5/")]) == 1
    assert run.batches.skipped()["data/skipped"] == 15


def test_samples_are_the_members_own_and_their_names_say_so(more_worlds, tmp_path):
    data = composed(load(more_worlds, tmp_path, "image", f"{SOURCES}\n{TARGETS}")).data
    source, members = data.source(), [data.member("source", number) for number in (0, 1)]
    assert len(source) == sum(map(len, members)) and len(members[1]) == 2
    for index, member, own in ((3, 0, 3), (len(members[0]) + 1, 1, 1)):
        joined, alone = source[Draw(index, 17)], members[member][Draw(own, 17)]
        assert torch.equal(joined.image, alone.image) and torch.equal(joined.label, alone.label)
        assert joined.name[0] == f"{('viper', 'gta5')[member]}/{alone.name[0]}" and joined.draw == (17,)
    whole = data.whole_images("target")
    assert whole[len(whole) - 1].draw == (len(whole) - 1,) and whole[len(whole) - 1].name[0].startswith("gta5/")
    assert all(frame.label is None for frame in whole.reader.frames)


def test_counts_of_classes_are_those_of_the_members_each_in_its_own_file(more_worlds, tmp_path):
    data = composed(load(more_worlds, tmp_path, "image", SOURCES)).data
    counts = data.class_counts(data.source())
    alone = [data.class_counts(data.member("source", number)).pixels for number in (0, 1)]
    assert np.array_equal(counts.pixels, np.concatenate(alone))
    assert len(list((tmp_path / "run" / "cache").glob("*.json"))) == 2


@pytest.mark.parametrize("rare", ["null", "{temperature: 0.5, min_pixels: 8, min_crop_ratio: 0.5}"])
def test_batches_of_a_run_hold_the_shares(more_worlds, tmp_path, rare):
    config = load(more_worlds, tmp_path, "image", SOURCES, f"source.rare={rare}", "training.batch=10")
    run = composed(config)
    batches = islice(run.batches.batches(adapts=False)(0), 20)
    names = Counter(name.split("/")[0] for source, _ in batches for name in source.name)
    # Exact in whole blocks of draws; with rare classes within five deviations of 200 draws.
    assert abs(names["viper"] - 140) <= (0 if rare == "null" else 33) and names.total() == 200


def test_images_are_clips_without_neighbours_among_clips(more_worlds, tmp_path):
    run = composed(load(more_worlds, tmp_path, "video", TARGETS, "training.batch=17"))  # all frames of both
    _, target = next(run.batches.batches(adapts=True)(0))
    still = torch.tensor([name.startswith("gta5/") for name in target.name])
    assert still.any() and not still.all() and target.offset == (-1, 1)
    assert not target.valid[still].any() and target.valid[~still].any()
    assert torch.equal(target.context[still], target.image[still][:, None].expand_as(target.context[still]))
    labels = run.adaptation.pseudo_labeler(run.config)

    def teacher(image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image, image.flip(1), image[:, :1].expand(-1, 13, -1, -1)], 1) * 9

    mixed = labels(teacher, target)
    alone = composed(dataclasses.replace(run.config, offsets=())).adaptation.pseudo_labeler(run.config)(teacher, target)
    assert torch.equal(mixed.label[still], teacher(target.image)[still].argmax(1))
    assert mixed.label.shape == alone.label.shape


def test_images_in_a_video_can_be_meant_and_one_target_must_be_a_video(more_worlds, tmp_path):
    stills = f"{{reader: {VIDEO}, flow: {{name: none}}}}"
    data = composed(load(more_worlds, tmp_path, "video", f"target: [{{reader: {VIDEO}}}, {stills}]")).data
    clips, images = data.member("target", 0), data.member("target", 1)
    assert clips[Draw(1, 5)].valid.any() and not images[Draw(1, 5)].valid.any()
    assert torch.equal(clips[Draw(1, 5)].image, images[Draw(1, 5)].image)
    alone = composed(load(more_worlds, tmp_path, "video", f"target: [{{reader: {GAME}}}, {stills}]")).data
    with pytest.raises(ValueError, match=r"target\.0 is not a video; one data set of a video run's target must be"):
        alone.member("target", 0)


def test_each_target_has_its_own_flow_store(more_worlds, tmp_path):
    other = VIDEO.replace("/city,", "/copy,")
    (more_worlds / "copy").exists() or (more_worlds / "copy").symlink_to(more_worlds / "city")
    store = f"flow: {{name: store, root: {tmp_path}/flow, estimator: dis-fast}}"
    text = f"target: [{{reader: {VIDEO}}}, {{reader: {other}}}]\n{store}"
    with pytest.raises(ValueError, match=r"target\.1: the flow store .* is of another data set; give this one its own"):
        composed(load(more_worlds, tmp_path, "video", text)).data.needed_flow()
    own = f"target.1.flow={{name: store, root: {tmp_path}/other, estimator: dis-fast}}"
    needed = composed(load(more_worlds, tmp_path, "video", text, own)).data.needed_flow()
    assert [Path(each.component["root"]).name for each in needed] == ["flow", "other", "flow"]
    assert needed[0].reader.frames[0].image != needed[1].reader.frames[0].image


def reports_of(config: Config, count_rare: bool = False) -> list:
    scope = CheckScope(opened=2, workers=0)
    return list(examine(composed(config).data, ("blda",), scope, count_rare))


@pytest.mark.parametrize("count_rare", [False, True])
def test_a_check_reports_each_data_set_and_all_sources_together(more_worlds, tmp_path, count_rare):
    config = load(more_worlds, tmp_path, "video", f"{SOURCES}\n{TARGETS}")
    reports = reports_of(config, count_rare)
    names = [report.name for report in reports]
    assert names == ["source.0", "source.1", "source", "target.0", "target.1", "evaluation", "labelled"]
    assert [report.frames for report in reports[:2]] == [12, 2]
    assert not any(problem.fatal for report in reports for problem in report.problems), as_text(reports)
    assert as_json(reports)["data"].keys() == set(names)
    assert reports[3].neighbours and not hasattr(reports[4], "neighbours")
    # VIPER has no wall and rider and is not told so; GTA5 has an id for them.
    assert not [problem for problem in reports[0].problems if problem.kind == "classes"]


def test_a_class_that_no_source_has_is_an_error_with_the_fix(more_worlds, tmp_path):
    classes = ["classes=[road, car, unicorn]", "evaluation.protocols=[]", "data.on_unseen=stop"]
    reports = reports_of(load(more_worlds, tmp_path, "image", SOURCES, *classes))
    together = next(report for report in reports if report.name == "source")
    with pytest.raises(ValueError, match=r"source data: the run has unicorn, for which the data set has no id.*leave"):
        require(together)


def test_evaluated_frames_are_no_source_and_frames_of_the_target_are_told(more_worlds, tmp_path):
    text = f"source: [{{reader: {VIPER}}}, {{reader: {CITY}}}]\ntarget: {{reader: {VIDEO}}}"
    labelled = reports_of(load(more_worlds, tmp_path, "image", text))[-1]
    (told,) = labelled.problems
    assert not told.fatal and told.text.startswith("3 labelled frames of source.1 are unlabelled target too")
    split = "source.1.reader.split=val"
    with pytest.raises(ValueError, match=r"labelled data: .* labelled frames of source\.1 are evaluated too.*leave"):
        require(reports_of(load(more_worlds, tmp_path, "image", text, split))[-1])
