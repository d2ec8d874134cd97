"""blda.load: what it finds, that it predicts what evaluation and the command predict, and its errors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.nn import functional as F

import blda
import trained
from blda.calibration.calibration_file import Calibration
from blda.engine import checkpoint
from blda_video.jobs.restored_run import restored
from cli import tool

ROOT = Path(__file__).parents[3]
SIZES = ((37, 51), (64, 40), (37, 51))


@pytest.fixture(scope="module", params=["image", "video"])
def run(tmp_path_factory, request) -> Path:
    """A checkpoint of a run of images or of video."""
    return trained.checkpoint_in(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """Images of two sizes."""
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def expected_labels(path: Path, image: np.ndarray, *overrides: str) -> np.ndarray:
    """Predict as the run's own evaluation does: its predictor on its image, scores resized as its metric does."""
    run, student = restored(path, list(overrides))
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    scores = run.evaluation.predictor(student)(pixels)
    return F.interpolate(scores, image.shape[:2], mode="bilinear").argmax(1)[0].byte().numpy()


def test_a_network_predicts_what_its_run_evaluates(run, images):
    segmenter = blda.load(run)
    assert segmenter.classes == trained.CLASSES
    assert (segmenter.protocol.name, segmenter.size, segmenter.colors.shape) == ("all", None, (3, 3))
    for image in images:
        labels = segmenter.predict(image).labels
        assert (labels.dtype, labels.shape) == (np.uint8, image.shape[:2])
        assert len(np.unique(labels)) > 1
        assert np.array_equal(labels, expected_labels(run, image))


def test_windows_and_flip_are_evaluations_own_or_given(run, images):
    overrides = ["evaluation.window=[24,32]", "evaluation.flip=true"]
    expected = expected_labels(run, images[0], *overrides)
    assert np.array_equal(blda.load(run, overrides=overrides).predict(images[0]).labels, expected)
    assert np.array_equal(blda.load(run, window=(24, 32), flip=True).predict(images[0]).labels, expected)
    assert not np.array_equal(expected, blda.load(run).predict(images[0]).labels)
    assert blda.load(run, size=[32, 48]).size == (32, 48)


@pytest.mark.parametrize("options", [(), ("evaluation.size=[24,40]", "evaluation.flip=true")])
def test_the_command_predicts_the_same(run, images, options, tmp_path):
    for i, image in enumerate(images):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "in" / f"{i}.png")
    tool("predict", run, tmp_path / "in", *options, "--output", tmp_path / "out")
    segmenter = blda.load(run, overrides=options)
    for i in range(len(images)):
        labels = np.asarray(Image.open(tmp_path / "out" / f"{i}.png"))
        assert np.array_equal(labels, segmenter.predict(tmp_path / "in" / f"{i}.png").labels)


def test_the_scores_of_evaluate_are_those_of_its_predictions(worlds, tmp_path, capsys):
    path = trained.checkpoint_in(tmp_path, "video", "classes=cityscapes19", "evaluation.size=[32,48]", root=worlds)
    tool("evaluate", path)
    scores = json.loads(capsys.readouterr().out)
    run, _ = restored(path, ["consistency=[]"])
    segmenter, dataset = blda.load(path), run.data.evaluation()
    (metric, *_) = run.evaluation.metrics()
    for i, frame in enumerate(dataset.reader.frames):
        labels = torch.from_numpy(segmenter.predict(frame.image).labels)[None].long()
        sample = dataset[i]
        metric.update(sample, F.one_hot(labels, len(segmenter.classes)).permute(0, 3, 1, 2).float(), None)
    assert metric.compute()["mIoU"] == scores["mIoU"]
    assert scores["mIoU"] > 0


def test_a_checkpoint_is_found_by_its_runs_folder(run, images, tmp_path):
    expected = blda.load(run).predict(images[0]).labels
    assert np.array_equal(blda.load(str(run.parent)).predict(images[0]).labels, expected)
    (tmp_path / "blda").symlink_to(run.parent)
    assert blda.load(tmp_path).origin.path == tmp_path / "blda" / run.name


def test_a_calibration_changes_the_prediction_as_evaluation_applies_it(run, images, tmp_path):
    file, other = tmp_path / "x.cal", tmp_path / "y.cal"
    trained.calibration().save(file)
    plain, balanced = blda.load(run), blda.load(run, calibration=file)
    loaded = Calibration.load(file, trained.CLASSES)
    scores = plain.scores(plain.seen(images[0]))
    assert torch.equal(balanced.scores(balanced.seen(images[0])), loaded(scores))
    assert not np.array_equal(plain.predict(images[0]).labels, balanced.predict(images[0]).labels)
    same = blda.load(run, calibration=loaded).predict(images[0])
    assert np.array_equal(same.labels, balanced.predict(images[0]).labels)
    trained.calibration(("road", "sky", "bus")).save(other)
    with pytest.raises(ValueError, match="'bus' where the network has 'car'"):
        blda.load(run, calibration=other)
    with pytest.raises(ValueError, match="make one of this network"):
        blda.load(run, calibration=Calibration.load(other, ("road", "sky", "bus")))


def test_loading_reads_only_what_the_network_and_evaluation_need(run, images, tmp_path):
    """Sections that training alone needs may be of any version, or missing."""
    settings = yaml.safe_load((run.parent / "config.yaml").read_text())
    kept = {key: settings[key] for key in ("model", "classes", "evaluation")}
    for name, tree in {"less": kept, "more": {**settings, "of_tomorrow": 1, "optimizer": {"muon": True}}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(tree))
        (tmp_path / name / run.name).symlink_to(run)
        labels = blda.load(tmp_path / name).predict(images[0]).labels
        assert np.array_equal(labels, blda.load(run).predict(images[0]).labels)


def test_loading_leaves_random_numbers_alone(run):
    state = torch.random.get_rng_state()
    network = blda.load(run).network
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not network.training and not any(each.requires_grad for each in network.parameters())


def test_loading_the_network_of_a_video_run_needs_no_video(tmp_path):
    path = trained.checkpoint_in(tmp_path, "video")
    names = "[name for name in sys.modules if name.startswith('blda_video')]"
    code = f"import sys, blda; blda.load({str(path)!r}); print({names})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_hrda_takes_its_detail_from_the_sources_crop(images, tmp_path):
    path = trained.checkpoint_in(tmp_path, "image", "model.hrda={attention: {name: segformer, embed: 8}}")
    assert np.array_equal(blda.load(path).predict(images[0]).labels, expected_labels(path, images[0]))


def test_mixed_precision_is_the_runs_or_asked_for(tmp_path, images):
    path = trained.checkpoint_in(tmp_path, "image", "training.precision=bf16")
    segmenter = blda.load(path)
    seen = segmenter.seen(images[0])
    mixed = segmenter.scores(seen)
    exact = segmenter.float().scores(seen)
    assert mixed.dtype == exact.dtype == torch.float32
    assert not torch.equal(mixed, exact)
    torch.testing.assert_close(mixed, exact, atol=0.3, rtol=0.1)
    assert torch.equal(segmenter.bfloat16().scores(seen), mixed)
    assert torch.equal(segmenter.to("cpu").scores(seen), mixed)
    half = segmenter.half().scores(seen)
    torch.testing.assert_close(half, exact, atol=0.05, rtol=0.02)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.equal(segmenter.network(seen).float(), mixed)


def test_a_wrong_place_is_one_line(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        blda.load(tmp_path / "step_000001.pt")
    with pytest.raises(ValueError, match=r"no step_\*\.pt"):
        blda.load(tmp_path)
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / run.name).symlink_to(run)
    with pytest.raises(FileNotFoundError, match=r"no config\.yaml beside"):
        blda.load(tmp_path / "alone" / run.name)
    with pytest.raises(ValueError, match=r"unknown keyword 'windows'.*window"):
        blda.load(run, windows=(8, 8))
    with pytest.raises(ValueError, match=r"unknown key 'evaluatoin'.*evaluation"):
        blda.load(run, overrides=["evaluatoin.flip=true"])
    with pytest.raises(ValueError, match="flip must be bool"):
        blda.load(run, flip=1)


def test_a_checkpoint_of_another_version_is_one_line(run, tmp_path):
    states = checkpoint.read(run)
    (tmp_path / "config.yaml").symlink_to(run.parent / "config.yaml")

    def error_of(states: dict) -> str:
        torch.save(states, tmp_path / "step_000002.pt")
        with pytest.warns(UserWarning, match="older version"), pytest.raises(ValueError) as raised:
            blda.load(tmp_path)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    renamed = {f"net.{name}": tensor for name, tensor in states["student"].items()}
    assert "use the version of blda and the config that wrote it" in error_of({"student": renamed})
    cut = {name: tensor[:1] if tensor.ndim else tensor for name, tensor in states["student"].items()}
    assert "of another shape" in error_of({"student": cut})
    assert "blda import-weights" in error_of({"state_dict": states["student"]})
    (tmp_path / "step_000002.pt").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="is damaged or no checkpoint"):
        blda.load(tmp_path)


def test_a_classifier_is_refused(run, tmp_path):
    settings = yaml.safe_load((run.parent / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({**settings, "classification": {}}))
    (tmp_path / run.name).symlink_to(run)
    with pytest.raises(ValueError, match="classifies whole images"):
        blda.load(tmp_path)


def test_scores_of_a_finished_run_belong_to_its_last_checkpoint(run, tmp_path):
    for name in ("config.yaml", run.name):
        (tmp_path / name).symlink_to(run.parent / name)
    (tmp_path / "result.json").write_text('{"protocol": "all", "mIoU": 12.5}')
    assert blda.load(tmp_path).origin.scores["mIoU"] == 12.5
    (tmp_path / "step_000002.pt").symlink_to(run)
    assert blda.load(tmp_path / run.name).origin.scores == {}
