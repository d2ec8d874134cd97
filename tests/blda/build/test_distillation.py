"""Distillation runs: labels of the teacher as blda.load predicts, exact resume, and what is said of a wrong teacher."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

import blda
import tiny
import trained
from blda.build import run_folder
from blda.build.distillation import fixed_teacher, warnings_of_teacher
from blda.config import loading
from blda.config.classification import ClassifyConfig
from blda.config.schema import Config
from blda.engine import checkpoint, runtime
from blda_video.jobs.checkpoint_ranking import rank

ROOT = Path(__file__).parents[3]
CLASSES = f"classes=[{', '.join(trained.CLASSES)}]"
PLAIN = ("evaluation.protocols=[]", CLASSES, "data.on_unseen=warn")
BIGGER = ("model.encoder.channels=[16,16,24,24]", "model.head.embed=16", "evaluation.flip=true")
HRDA = ("model.hrda={attention: {name: segformer, embed: 8}, detail: [16, 24]}",)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    """The folder of a run of images with a larger network."""
    return trained.checkpoint_in(tmp_path_factory.mktemp("big"), "image", *BIGGER).parent


@pytest.fixture
def config(worlds, tmp_path, teacher):
    """Makes the config of a student's run, by mode and overrides."""

    def made(mode: str = "image", *overrides: str, weights: object = teacher) -> Config:
        taught = f"self_training.teacher.weights={weights}"
        return tiny.load(worlds, tmp_path / "small", mode, *PLAIN, taught, *overrides)

    return made


def _image(height: int = 32, width: int = 48) -> tuple[np.ndarray, Tensor]:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return pixels, torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def _labels(config: Config, image: Tensor) -> np.ndarray:
    accelerator = runtime.start("no")
    scores = fixed_teacher(config, accelerator.device, accelerator.autocast)(image)
    assert (scores.dtype, scores.requires_grad) == (torch.float32, False)
    return scores.argmax(1)[0].numpy()


@pytest.mark.parametrize("network", [(), BIGGER, (*BIGGER, "evaluation.window=[16,24]"), HRDA], ids=str)
def test_labels_are_those_that_a_loaded_network_predicts(config, network, tmp_path):
    folder = trained.checkpoint_in(tmp_path / "any", "video", *network).parent
    pixels, image = _image()
    expected = blda.load(folder).predict(pixels).labels
    assert len(np.unique(expected)) > 1
    assert np.array_equal(_labels(config(weights=folder), image), expected)


def test_a_calibration_saved_with_the_network_or_named_corrects_its_labels(config, teacher, tmp_path):
    pixels, image = _image()
    calibration = trained.calibration(tau=0.3)
    calibration.save(tmp_path / "calibration.pt")
    blda.load(teacher, calibration).save_pretrained(tmp_path / "saved")
    expected = blda.load(tmp_path / "saved").predict(pixels).labels
    assert not np.array_equal(expected, blda.load(teacher).predict(pixels).labels)
    assert np.array_equal(_labels(config(weights=tmp_path / "saved"), image), expected)
    named = config("image", f"self_training.teacher.calibration={tmp_path / 'calibration.pt'}")
    assert np.array_equal(_labels(named, image), expected)


def test_classes_in_another_order_are_put_in_the_runs(config):
    _, image = _image()
    order = ("car", "road", "sky")
    own, other = _labels(config(), image), _labels(config("image", f"classes=[{', '.join(order)}]"), image)
    assert np.array_equal(np.array(trained.CLASSES)[own], np.array(order)[other])


@pytest.mark.parametrize("mode", tiny.MODES)
@pytest.mark.parametrize("method", ["self_training", "blda"])
def test_a_resumed_distillation_equals_a_whole_one_bit_for_bit(config, mode, method):
    masked = "self_training.masked={block: 8, ratio: 0.5}"
    settings = config(mode, f"method={method}", masked, "self_training.burn_in=1")
    whole = tiny.trainer(settings, "whole")
    assert whole.fit()["mIoU"] >= 0
    assert "train/loss/masked" in set().union(*tiny.lines(whole))
    resumed = tiny.resumed(settings)
    assert tiny.differences(tiny.states(whole), tiny.states(resumed)) == []
    averaged = tiny.trainer(config(mode, f"method={method}", masked, "self_training.teacher=null"), "averaged")
    averaged.fit()
    assert not torch.equal(averaged.method.snapshot.label, whole.method.snapshot.label)


def test_the_teachers_weights_stay_and_are_in_no_checkpoint(config, teacher):
    trainer = tiny.trainer(config("image", "method=self_training"), "run")
    network = trainer.method.teacher.predict.model.model  # inside the mirrored view
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trainer.fit()
    stored = checkpoint.read(checkpoint.latest(teacher))["student"]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(torch.equal(value, stored[name]) for name, value in network.state_dict().items())
    assert checkpoint.read(checkpoint.latest(trainer.folder))["teacher"].keys() == {"updates", "origin", "digest"}


def test_hidden_blocks_have_the_students_mean_and_not_the_teachers(config, tmp_path):
    other = "model.encoder={name: timm, model: tf_efficientnet_lite0}"
    folder = trained.checkpoint_in(tmp_path / "timm", "image", other).parent
    trainer = tiny.trainer(config("image", "self_training.masked={block: 8}", weights=folder), "run")
    assert not torch.equal(trainer.method.teacher.predict.model.mean, trainer.student.mean)
    assert torch.equal(torch.stack(trainer.method.further["masked"].mask.fill), trainer.student.mean.flatten())


def test_a_run_continues_with_its_teacher_only(config, teacher, tmp_path):
    """The same bytes elsewhere are the same teacher; a newer checkpoint in the folder is not."""
    shutil.copytree(teacher, tmp_path / "big")
    settings = config("image", "method=self_training", weights=tmp_path / "big")
    tiny.trainer(settings, "run").fit(until=2)
    tiny.trainer(settings, "run").resume()
    newer = checkpoint.read(checkpoint.latest(tmp_path / "big"))
    newer["student"]["head.classifier.bias"] += 1
    torch.save(newer, tmp_path / "big" / "step_000002.pt")
    with pytest.warns(UserWarning, match="no digest of itself"):
        changed = tiny.trainer(settings, "run")
    with pytest.raises(ValueError, match=r"step_000002\.pt \(digest \w+\) is not the teacher of this run, which was "):
        changed.resume()


def test_other_windows_of_the_same_weights_are_another_teacher(config, teacher, tmp_path):
    shutil.copytree(teacher, tmp_path / "big")
    settings = config("image", "method=self_training", weights=tmp_path / "big")
    tiny.trainer(settings, "run").fit(until=2)
    beside = yaml.safe_load((tmp_path / "big" / "config.yaml").read_text())
    beside["log"]["bar"] = True
    (tmp_path / "big" / "config.yaml").write_text(yaml.safe_dump(beside))
    tiny.trainer(settings, "run").resume()
    beside["evaluation"]["flip"] = False
    (tmp_path / "big" / "config.yaml").write_text(yaml.safe_dump(beside))
    with pytest.raises(ValueError, match="is not the teacher of this run"):
        tiny.trainer(settings, "run").resume()


def test_without_a_teacher_the_run_is_that_of_versions_without_the_key(config):
    """Its digest, by which older checkpoints are known again, does not change."""
    plain, taught = config("image", "self_training.teacher=null"), config()
    kept = run_folder._beside_defaults(plain)["self_training"]
    assert "teacher" not in kept and "teacher" in run_folder._beside_defaults(taught)["self_training"]
    assert run_folder.experiment(plain) != run_folder.experiment(taught)
    assert tiny.trainer(plain, "plain").method.teacher.state_dict().keys() > {"_extra_state"}


def _prepared(config: Config) -> None:
    tiny.compose(config, runtime.start("no")).prepare(["self_training"])


def test_a_teacher_of_other_classes_is_refused_by_name(config):
    message = (
        r"^self_training\.teacher: .*step_000001\.pt was trained on 3 classes, this run has 3 \(missing there: bus; "
        r"missing here: car\); set the run's classes to the teacher's, or give another teacher$"
    )
    with pytest.raises(ValueError, match=message):
        _prepared(config("image", "classes=[road, sky, bus]"))


def test_a_teacher_that_is_missing_damaged_or_no_network_is_refused(config, teacher, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^self_training\.teacher: no checkpoint at .*none; give a step_"):
        _prepared(config(weights=tmp_path / "none"))
    folder = tmp_path / "damaged"
    shutil.copytree(teacher, folder)
    path = folder / "step_000001.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^self_training\.teacher: .*step_000001\.pt is damaged"):
        _prepared(config(weights=path))
    checkpoint.save(path, {"encoder": torch.nn.Conv2d(1, 1, 1)})
    with pytest.raises(ValueError, match=r"^self_training\.teacher: .* is no checkpoint of a run .*import-weights$"):
        _prepared(config(weights=folder))


def test_a_teacher_that_was_never_trained_is_refused(config, worlds, tmp_path):
    untrained = tiny.load(worlds, tmp_path / "new", "image", *PLAIN, "method=source_only")
    trainer = tiny.trainer(untrained, "source_only")
    trainer.save()
    loading.save(untrained, trainer.folder / "config.yaml")
    with pytest.raises(ValueError, match=r"step_000000\.pt was saved before its first step, with random weights"):
        _prepared(config(weights=trainer.folder))


def test_a_size_that_the_teacher_was_not_made_for_is_a_warning(config, tmp_path):
    folder = trained.checkpoint_in(tmp_path / "large", "image", "evaluation.size=[64,128]").parent
    assert warnings_of_teacher(config("image", "evaluation.size=[64,128]", weights=folder)) == []
    assert warnings_of_teacher(config(weights=folder)) == []
    (line,) = warnings_of_teacher(config("image", "evaluation.size=[32,64]", weights=folder))
    assert "images of 64 x 128" in line and "at 32 x 64" in line


def test_classifiers_and_empty_names_are_refused(config):
    with pytest.raises(ValueError, match=r"self_training\.teacher\.weights is empty; give a run's folder"):
        config(weights="''")
    with pytest.raises(ValueError, match="missing weights"):
        config("image", "self_training.teacher=null", "self_training.teacher={}")
    with pytest.raises(
        ValueError, match=r"self_training\.teacher labels pixels, which a classifier has not; set it to"
    ):
        loading.load(ROOT / "configs/visda17.yaml", ClassifyConfig, ["self_training.teacher.weights=runs/big"])


def test_a_student_is_loaded_and_ranked_without_its_teacher(config, teacher, tmp_path):
    shutil.copytree(teacher, tmp_path / "gone")
    settings = config("video", "training.checkpoint_every=2", weights=tmp_path / "gone")
    trainer = tiny.trainer(settings, "run")
    trainer.fit()
    loading.save(settings, trainer.folder / "config.yaml")
    shutil.rmtree(tmp_path / "gone")
    assert blda.load(trainer.folder).predict(_image()[0]).labels.shape == (32, 48)
    ranked = rank([trainer.folder], ["log.bar=false"], 2)
    assert [math.isnan(each.criteria["teacher_mIoU"]) for each in ranked] == [True, True]
