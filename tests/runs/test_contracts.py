"""The promises of the design, on the smallest run that can break them: both modes, a street world of 32 x 64 pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import several_data_sets
import tiny
from blda.build.reader_factory import class_names
from blda.config.schema import Config
from blda.data.sample import Sample
from blda.engine import checkpoint
from blda.engine.trainer import TrainingStopped
from blda_video.propagation.motion_network import MotionNetwork

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mode", tiny.MODES)
@pytest.mark.parametrize(
    "method",
    [("source_only",), ("reweighted",), ("adjusted",), ("blda",), ("blda", tiny.DENSITY)],
    ids="-".join,
)
def test_resumed_run_equals_uninterrupted_one_bit_for_bit(worlds, tmp_path, mode, method):
    config = tiny.load(worlds, tmp_path, mode, f"method={method[0]}", *method[1:])
    whole = tiny.trainer(config, "whole")
    assert whole.fit()["mIoU"] >= 0
    tiny.trainer(config, "split").fit(until=2)
    resumed = tiny.trainer(config, "split")
    resumed.resume()
    assert resumed.step == 2
    resumed.fit()
    assert tiny.differences(tiny.states(whole), tiny.states(resumed)) == []


@pytest.mark.parametrize(
    "name", ["trainer", "student", "teacher", "optimizer", "source_statistics", "target_statistics", "density_head"]
)
def test_every_named_state_matters(worlds, tmp_path, name):
    config = tiny.load(worlds, tmp_path, "image", tiny.DENSITY)
    whole, cut = tiny.trainer(config, "run"), tiny.trainer(config, "run")
    whole.fit(until=2)
    states = checkpoint.read(checkpoint.latest(whole.folder))
    assert name in states
    objects = cut.state()
    assert objects.keys() == states.keys()
    for other in objects.keys() - {name}:
        objects[other].load_state_dict(states[other])
    if name != "trainer":
        assert cut.step == 2
    for trainer in (whole, cut):
        trainer.fit(until=3)
    assert tiny.differences(tiny.states(whole), tiny.states(cut)), f"nothing depends on '{name}'"


def test_clip_without_context_is_an_image_bit_for_bit(worlds, tmp_path):
    image = tiny.trainer(tiny.load(worlds, tmp_path, "image"), "image")
    clip = tiny.trainer(tiny.load(worlds, tmp_path, "video", "offsets=[]", "consistency=[]"), "clip")
    scores = image.fit(), clip.fit()
    assert tiny.differences(tiny.states(image), tiny.states(clip)) == []
    assert scores[0]["mIoU"] == scores[1]["mIoU"]


def test_context_changes_a_run(worlds, tmp_path):
    image = tiny.trainer(tiny.load(worlds, tmp_path, "image"), "image")
    clip = tiny.trainer(tiny.load(worlds, tmp_path, "video"), "clip")
    for trainer in (image, clip):
        trainer.fit(until=2)
    changed = tiny.differences(tiny.states(image), tiny.states(clip))
    assert any(name.startswith("target_statistics") for name in changed)


@pytest.mark.parametrize("mode", tiny.MODES)
def test_target_labels_are_never_read(worlds, tmp_path, mode):
    """The labels of the target's training split are replaced by garbage; training does not notice."""
    config = tiny.load(worlds, tmp_path, mode)
    clean = tiny.trainer(config, "clean")
    clean.fit(until=2)
    labels = sorted((worlds / "city" / "gtFine" / "train").rglob("*.png"))
    assert labels
    kept = [path.read_bytes() for path in labels]
    try:
        for path in labels:
            path.write_bytes(b"no image")
        spoiled = tiny.trainer(config, "spoiled")
        spoiled.fit(until=2)
    finally:
        for path, content in zip(labels, kept, strict=True):
            path.write_bytes(content)
    assert tiny.differences(tiny.states(clean), tiny.states(spoiled)) == []


def test_accumulated_passes_are_one_larger_batch(worlds, tmp_path):
    """Source-only: with BLDA, statistics are rightly updated once a pass."""
    options = ["method=source_only", "optimizer.clip=null", "model.head.dropout=0.0"]
    whole = tiny.with_sgd(tiny.trainer(tiny.load(worlds, tmp_path, "image", *options), "whole"))
    split = tiny.load(worlds, tmp_path, "image", *options, "training.batch=1", "training.accumulate=2")
    parts = tiny.with_sgd(tiny.trainer(split, "parts"))
    before = tiny.states(whole)
    for trainer in (whole, parts):
        trainer.fit(until=2)
    assert len(tiny.differences(before, tiny.states(whole))) > 20
    tiny.assert_close(tiny.states(parts), tiny.states(whole))


def test_loss_without_number_stops_and_keeps_the_good_checkpoint(worlds, tmp_path):
    trainer = tiny.trainer(tiny.load(worlds, tmp_path, "image", "training.checkpoint_every=1"), "nan")
    trainer.fit(until=2)
    batches = trainer.batches

    def poisoned(start: int):
        for source, target in batches(start):
            yield replace(source, image=source.image * float("nan")), target

    trainer.batches = poisoned
    with pytest.raises(TrainingStopped, match=r"is not finite; .*step_000002\.pt"):
        trainer.fit()
    assert checkpoint.step_of(checkpoint.latest(trainer.folder)) == 2
    saved = checkpoint.read(checkpoint.latest(trainer.folder))["student"]
    assert all(value.isfinite().all() for value in saved.values())


def test_weights_without_number_are_not_saved(worlds, tmp_path):
    """A finite loss with a gradient that is not: the next loss would tell, but the checkpoint comes first."""
    trainer = tiny.trainer(tiny.load(worlds, tmp_path, "image"), "nan")
    trainer.fit(until=1)
    with torch.no_grad():
        next(trainer.student.parameters()).view(-1)[0] = float("inf")
    with pytest.raises(TrainingStopped, match=r"step_000001\.pt"):
        trainer.save()


def test_steps_survive_an_evaluation_that_fails(worlds, tmp_path):
    trainer = tiny.trainer(tiny.load(worlds, tmp_path, "image", "evaluation.every=2"), "broken")

    def fails(predict):
        raise ValueError("cannot read a label")

    trainer.evaluator = fails
    with pytest.raises(ValueError, match="cannot read a label"):
        trainer.fit()
    assert checkpoint.step_of(checkpoint.latest(trainer.folder)) == 2


def test_a_changed_rate_takes_effect_on_resume(worlds, tmp_path):
    tiny.trainer(tiny.load(worlds, tmp_path, "image"), "rate").fit(until=2)
    resumed = tiny.trainer(tiny.load(worlds, tmp_path, "image", "optimizer.lr=1e-5"), "rate")
    resumed.resume()
    assert sorted({group["peak"] for group in resumed.optimizer.param_groups}) == pytest.approx([1e-5, 2e-5])


def test_log_has_losses_scores_shares_and_bias_per_class(worlds, tmp_path):
    trainer = tiny.trainer(tiny.load(worlds, tmp_path, "video", "log.pictures=4", "log.trackers=[tensorboard]"), "log")
    trainer.fit()
    trainer.log.close()
    keys = set().union(*tiny.lines(trainer))
    expected = {"loss/source", "loss/mixed", "learning_rate", "pseudo_label/share/road", "pseudo_label/weight"}
    expected |= {"bias_source/road", "bias_target/bicycle", "seconds_per_step", "gradient_norm"}
    assert {f"train/{key}" for key in expected} <= keys
    assert {"target/mIoU", "target/mAcc", "target/std", "target/iou/road", "target/acc/car"} <= keys
    assert {"target/viper15/mIoU", "target/consistency", "target/best_on_validation/mIoU"} <= keys
    assert {"target/consistency/road", "target/flicker/car", "target/M5/sky", "target/viper15/M5"} <= keys
    drawn = EventAccumulator(str(trainer.folder)).Reload().Tags()["images"]
    shown = {"target", "pseudo_label", "weight", "mixed", "mixed_label", "statistics"}
    assert {"target/image_prediction_truth", *(f"train/{name}" for name in shown)} <= set(drawn)
    overview = {"iou_per_class", "other_measures_per_class", "confusion"}
    assert {name.removeprefix("overview/") for name in drawn if name.startswith("overview/")} == overview


def test_resumed_log_has_each_step_once(worlds, tmp_path):
    config = tiny.load(worlds, tmp_path, "image", "training.checkpoint_every=2")
    first = tiny.trainer(config, "log")
    first.fit(until=3)
    checkpoint.path_of(first.folder, 3).unlink()  # killed after step 3 was logged
    again = tiny.trainer(config, "log")
    again.resume()
    again.log.resume(again.step)
    again.fit()
    assert [line["step"] for line in tiny.lines(again) if "train/loss/source" in line] == [1, 2, 3, 4]


@pytest.fixture(scope="module")
def halved(worlds, more_worlds, mit_weights, tmp_path_factory) -> dict[str, tuple[Config, list[dict]]]:
    """Runs, and what each of two real processes ends with on half of their batches; `tests/runs/test_variants.py` has
    more.

    `whole method` is all that the image mode can have at once: density, masks, margins and feature distance. `video`
    has the evidence of a motion network too.
    """
    folder = tmp_path_factory.mktemp("halved")
    plain = ("optimizer.clip=null", "model.head.dropout=0.0", "blda.min_pixels=64")

    def config(name: str, mode: str, *overrides: str) -> Config:
        return tiny.load(worlds, folder / name, mode, *plain, *overrides)

    whole = [
        f"model.encoder={{name: mit, variant: tiny, drop_path: 0.0, weights: {mit_weights}}}",
        *(f"{part}={{resize: [64, 128], crop: [64, 96]}}" for part in ("source", "target")),
        "self_training={masked: {block: 8, ratio: 0.5}, margins: [4, 12, 6, 6]}",
        "feature_distance={strength: 0.1, min_ratio: 0.51, things: [road, building, sky, vegetation, car]}",
    ]
    motion = MotionNetwork(class_names(config("names", "video")), (-1, 1))
    motion.count += 10
    motion.save(folder / "motion.pt")
    evidence = f"motion={{weights: {folder / 'motion.pt'}, power: 0.3}}"
    several = f"{several_data_sets.SOURCES}\n{several_data_sets.TARGETS}"
    configs = {
        "image with density": tiny.moved(config("density", "image", tiny.DENSITY)),
        "video": tiny.moved(config("video", "video", evidence)),
        "whole method": tiny.moved(config("whole", "image", tiny.DENSITY, *whole)),
        "several data sets": tiny.moved(several_data_sets.load(more_worlds, folder, "video", several, *plain)),
        "batch norm": config("norm", "image", "method=source_only", "training.batch=4", *tiny.BATCH_NORM),
    }
    ends = tiny.on_two_processes(list(configs.values()), folder)
    return {name: (config, end) for (name, config), end in zip(configs.items(), ends, strict=True)}


@pytest.mark.parametrize("name", ["image with density", "video", "whole method", "several data sets"])
def test_two_processes_equal_one_on_the_same_global_batch(halved, name):
    config, ranks = halved[name]
    single = tiny.with_sgd(tiny.trainer(config, "single"))
    scores = single.fit()
    assert tiny.differences(ranks[0]["states"], ranks[1]["states"]) == []
    assert ranks[0]["scores"] == pytest.approx(ranks[1]["scores"], nan_ok=True, abs=0)
    tiny.assert_close(ranks[0]["states"], tiny.states(single))
    assert ranks[0]["scores"]["mIoU"] == pytest.approx(scores["mIoU"], abs=0.5)
    assert single.method.numbers()["pseudo_label/weight"] > 0.1
    assert any(line.get("train/feature_distance", 0) > 0 for line in tiny.lines(single)) == (name == "whole method")


def test_two_processes_evaluate_and_save_one_network_with_batch_norm(halved):
    """Running statistics are each process's own after a step; DDP only shares them before the next forward."""
    config, (first, second) = halved["batch norm"]
    assert tiny.differences(first["states"], second["states"]) == []
    saved = checkpoint.read(checkpoint.latest(Path(config.run) / "double"))["student"]
    assert any("running_mean" in name for name in saved)
    assert all(torch.equal(first["states"][f"student/{name}"], value) for name, value in saved.items())


def test_batches_move_to_a_device_with_their_type(worlds, tmp_path):
    trainer = tiny.trainer(tiny.load(worlds, tmp_path, "video"), "types")
    source, target = next(trainer.batches(0))
    assert type(source) is Sample
    assert target.label is None
    assert type(target.to("cpu")) is type(target)
    assert target.offset == (-1, 1)
    assert target.context.shape[:2] == (2, 2)
