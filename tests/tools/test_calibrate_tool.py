"""blda calibrate and who applies its file, on saved logits and on a checkpoint that never was trained."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from accelerate import Accelerator

from blda.build.classifier_run import classifier_run
from blda.build.image_run import image_run
from blda.calibration.calibration_file import Calibration
from blda.calibration.saved_logits import SavedLogits
from blda.config import loading
from blda.config.classification import ClassifyConfig
from blda.config.schema import Config
from blda.data.sample import IGNORE
from blda.engine import checkpoint
from cli import error_of, tool

ROOT = Path(__file__).parents[2]
NAMES = ("road", "sky", "car", "pole")


# Saved logits


def _arrays(seed: int, weak: float, shape: tuple[int, ...] = (3, 40, 50)) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, 4, H, W) or (N, 4), the last class lower by `weak`, and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, size=shape, p=(0.5, 0.3, 0.1, 0.1))
    logits = np.moveaxis(5 * np.eye(4)[labels], -1, 1) + 2 * rng.standard_normal((shape[0], 4, *shape[1:]))
    logits[:, 3] -= weak
    return logits.astype(np.float32), labels.astype(np.uint8)


def _npz(path: Path, logits: np.ndarray, labels: np.ndarray | None = None) -> Path:
    np.savez(path, logits=logits, **({} if labels is None else {"labels": labels}))
    return path


@pytest.fixture
def saved(tmp_path) -> dict[str, Path]:
    """Source, target without labels, validation, and the file to write."""
    return {
        "source": _npz(tmp_path / "source.npz", *_arrays(0, 0)),
        "target": _npz(tmp_path / "target.npz", _arrays(1, 2)[0]),
        "validation": _npz(tmp_path / "validation.npz", *_arrays(2, 2)),
        "output": tmp_path / "calibration.pt",
    }


def _options(saved: dict[str, Path], **changed: object) -> list[object]:
    given = {**saved, **changed}
    return [word for name, value in given.items() if value is not None for word in (f"--{name}", value)]


def test_saved_logits_are_calibrated_and_measured(saved, capsys):
    options = _options(saved)
    tool("calibrate", *options, "--classes", *NAMES, "--tau", 0, 0.5, 1)
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["tau"] == 0.1
    assert found["tau_chosen"] == "given"
    assert "evaluation only" in found["labels_of_target"]
    assert [line["tau"] for line in found["sweep"]] == [0, 0.1, 0.5, 1]
    assert found["before"]["bias/pole"] < -0.03
    accuracies = [line["mAcc"] for line in found["sweep"]]
    assert accuracies == sorted(accuracies)
    assert found["after"]["acc/pole"] > found["before"]["acc/pole"]
    assert abs(found["bias_without_labels"]["calibrated"]["pole"]) < abs(found["bias_without_labels"]["target"]["pole"])
    for word in ("tau 0.1 (given)", "pole", "mAcc", "bias"):
        assert word in said.err
    calibration = Calibration.load(saved["output"], NAMES)
    logits, labels = _arrays(2, 2)
    right = calibration(torch.from_numpy(logits)).argmax(1).numpy() == labels
    assert 100 * right[labels == 3].mean() == pytest.approx(found["after"]["acc/pole"], abs=1e-4)


def test_best_miou_is_recorded_as_chosen_on_labels(saved, capsys):
    tool("calibrate", *_options(saved), "--choose", "best-miou", "--tau", 0, 0.3, 1)
    found = json.loads(capsys.readouterr().out)
    best = max(found["sweep"], key=lambda line: line["mIoU"])
    assert found["tau"] == best["tau"]
    assert "labels" in found["tau_chosen"]
    loaded = Calibration.load(saved["output"], [f"class_{i}" for i in range(4)])
    assert "labels" in loaded.origin["tau_chosen"]
    assert loaded.tau == best["tau"]


def test_without_validation_the_file_is_written_and_bias_estimated(saved, capsys):
    tool("calibrate", *_options(saved, validation=None))
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["labels_of_target"] == "none"
    assert "sweep" not in found
    assert set(found["bias_without_labels"]) == {"source", "target", "calibrated"}
    assert "class_3" in said.err
    assert Calibration.load(saved["output"], [f"class_{i}" for i in range(4)]).tau == 0.1
    assert "--validation" in error_of("calibrate", *_options(saved, validation=None), "--choose", "best-miou")


def test_labels_of_the_target_are_not_read(saved, tmp_path):
    logits, labels = _arrays(1, 2)
    tool("calibrate", *_options(saved, validation=None))
    expected = torch.load(saved["output"], weights_only=True)["alignment"]["table"]
    for number, wrong in enumerate((np.zeros_like(labels), np.full((1,), "x"))):
        target = _npz(tmp_path / f"labelled{number}.npz", logits, wrong)
        tool("calibrate", *_options(saved, validation=None, target=target))
        assert torch.equal(torch.load(saved["output"], weights_only=True)["alignment"]["table"], expected)


def test_every_layout_of_the_same_logits_gives_the_same_file(saved, tmp_path):
    tool("calibrate", *_options(saved))
    expected = torch.load(saved["output"], weights_only=True)["alignment"]["table"]
    for layout in (_folder_of_npz, _folder_pair, _vectors):
        paths = {name: layout(tmp_path / layout.__name__ / name, saved[name]) for name in saved if name != "output"}
        tool("calibrate", *_options(saved, **paths))
        assert torch.equal(torch.load(saved["output"], weights_only=True)["alignment"]["table"], expected)


def _folder_of_npz(folder: Path, path: Path) -> Path:
    folder.mkdir(parents=True)
    arrays = dict(np.load(path))
    for index in range(len(arrays["logits"])):
        np.savez_compressed(folder / f"{index}.npz", **{name: array[index] for name, array in arrays.items()})
    return folder


def _folder_pair(folder: Path, path: Path) -> Path:
    for name, array in np.load(path).items():
        (folder / name).mkdir(parents=True)
        for index in range(len(array)):
            np.save(folder / name / f"frame_{index}.npy", array[index])
    return folder


def _vectors(folder: Path, path: Path) -> Path:
    folder.mkdir(parents=True)
    arrays = dict(np.load(path))
    vectors = np.moveaxis(arrays["logits"], 1, -1).reshape(-1, 4)
    return _npz(folder / "all.npz", vectors, arrays["labels"].ravel() if "labels" in arrays else None)


def test_samples_are_parts_of_a_file(saved, monkeypatch):
    whole = SavedLogits(saved["source"], labelled=True)[0]
    assert whole.image.shape == (3, 4, 40, 50)
    monkeypatch.setattr("blda.calibration.saved_logits.VALUES", 2 * 4 * 40 * 50)
    parts = SavedLogits(saved["source"], labelled=True)
    assert [len(parts[i].image) for i in range(len(parts))] == [2, 1]
    assert torch.equal(torch.cat([parts[i].label for i in range(2)]), whole.label)


def _spoilt(tmp_path: Path, kind: str) -> Path:
    logits, labels = _arrays(0, 0)
    path = tmp_path / "bad.npz"
    if kind == "no labels":
        return _npz(path, logits)
    if kind == "no logits":
        np.savez(path, scores=logits, labels=labels)
        return path
    if kind == "empty folder":
        (tmp_path / "empty").mkdir()
        return tmp_path / "empty"
    if kind == "no label file":
        (tmp_path / "pair" / "logits").mkdir(parents=True)
        np.save(tmp_path / "pair" / "logits" / "a.npy", logits)
        return tmp_path / "pair"
    if kind == "text":
        path.write_text("logits")
        return path
    if kind == "half a file":
        whole = _npz(path, logits, labels).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        return path
    if kind == "nan":
        logits[1, 2, 3, 4] = np.nan
    if kind == "infinite":
        logits[1, 2, 3, 4] = np.inf
    if kind == "label":
        labels[2, 3, 4] = 4
    changed = {
        "size": (logits, labels[:, :-1]),
        "count": (logits[:2], labels),
        "classes": (logits[:, :3], labels % 3),
        "float labels": (logits, labels.astype(np.float32)),
        "integer logits": (labels[:, None].repeat(4, 1), labels),
        "one axis": (logits.ravel(), labels.ravel()),
        "no image": (logits[:0], labels[:0]),
        "objects": (logits.astype(object), labels),
    }
    return _npz(path, *changed.get(kind, (logits, labels)))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no labels", "bad.npz: no array 'labels', only logits"),
        ("no logits", "bad.npz: no array 'logits', only scores, labels"),
        ("empty folder", "empty holds no *.npz"),
        ("no label file", "labels/a.npy"),
        ("text", "bad.npz is damaged"),
        ("half a file", "bad.npz is damaged"),
        ("nan", "bad.npz: logits of images 0 to 2 are not all finite"),
        ("infinite", "not all finite"),
        ("label", "bad.npz holds label 4 but 4 classes; use 255"),
        ("size", "labels must be integers (3, 40, 50) for logits (3, 4, 40, 50), not u (3, 39, 50)"),
        ("count", "labels must be integers (2, 40, 50)"),
        ("classes", "; use one network"),
        ("float labels", "labels must be integers"),
        ("integer logits", "logits must be floats"),
        ("one axis", "logits must be floats"),
        ("no image", "logits must be floats"),
        ("objects", "logits must be floats"),
    ],
)
@pytest.mark.parametrize("where", ["source", "validation"])
def test_bad_logits_are_named_in_one_line(saved, tmp_path, kind, message, where):
    assert message in error_of("calibrate", *_options(saved, **{where: _spoilt(tmp_path, kind)}))
    assert not saved["output"].exists()


def test_arguments_that_do_not_belong_together(saved, tmp_path):
    options = _options(saved)
    names = tmp_path / "names.txt"
    names.write_text("road\nsky\n")
    for more, message in (
        (["runs/x/step_1.pt"], "exclude each other"),
        (["--statistics", "checkpoint"], "needs a checkpoint"),
        (["--classes", "road", "sky"], "2 different names for 4 classes"),
        (["--classes", names], "2 different names for 4 classes"),
        (["--classes", "road", "road", "sky", "car"], "3 different names for 4 classes"),
        (["--choose", -1], "tau is -1"),
        (["--passes", 0], "--passes 0"),
        (["--source", "/nowhere"], "no logits at /nowhere"),
    ):
        assert message in error_of("calibrate", *options, *more)
    assert "give a checkpoint, or" in error_of("calibrate", "--output", tmp_path / "x")
    assert not saved["output"].exists()


def test_a_validation_set_of_ignored_pixels_has_no_best(saved, tmp_path, capsys):
    logits, labels = _arrays(2, 2)
    blank = _npz(tmp_path / "blank.npz", logits, np.full_like(labels, IGNORE))
    options = _options(saved, validation=blank)
    assert "no labelled pixel to choose tau on" in error_of("calibrate", *options, "--choose", "best-miou")
    tool("calibrate", *options)
    assert json.loads(capsys.readouterr().out)["before"]["mIoU"] is None


# A checkpoint


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A checkpoint of a network as it starts, with statistics, beside its config; folders of both domains."""
    root = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    for domain, count in (("source", 4), ("target", 3), ("validation", 2)):
        for number in range(count):
            ids = np.repeat(np.repeat(rng.integers(0, 4, (4, 6)), 8, 0), 8, 1).astype(np.uint8)
            image = (ids[..., None] * 60 + rng.integers(0, 40, (*ids.shape, 3))).astype(np.uint8)
            for kind, pixels in (("images", image), ("labels", ids)):
                path = root / domain / kind / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                assert cv2.imwrite(str(path), pixels)
    # Target labels that would be an error if they were read.
    for path in (root / "target" / "labels").iterdir():
        path.write_text("no image")
    tree = {
        "run": str(root),
        "classes": list(NAMES),
        "model": {"encoder": {"name": "small", "channels": [8, 8, 8, 8]}, "head": {"name": "daformer", "embed": 8}},
        "source": {"reader": _reader(root / "source"), "resize": [32, 48]},
        "target": {"reader": _reader(root / "target"), "resize": [32, 48]},
        "evaluation": {"reader": _reader(root / "validation"), "size": [16, 24]},
        "log": {"bar": False},
        "training": {"workers": 0},
    }
    (root / "run.yaml").write_text(json.dumps(tree))
    config = loading.load(root / "run.yaml", Config)
    folder = root / "blda"
    loading.save(config, folder / "config.yaml")
    run = image_run(config, Accelerator(cpu=True))
    student = run.networks.student()
    criterion = run.losses.criterion("blda", student, run.losses.statistics("blda"))
    image = torch.rand(2, 3, 32, 48)
    for statistics in criterion.state().values():
        statistics.update(student.eval()(image).detach(), torch.randint(0, 4, (2, 32, 48)))
    path = checkpoint.path_of(folder, 1)
    checkpoint.save(path, {"student": student, **criterion.state()})
    return path


def _reader(folder: Path) -> dict:
    ids = dict(enumerate(NAMES))
    return {
        "name": "folder",
        "images": str(folder / "images"),
        "labels": str(folder / "labels"),
        "ids": {str(raw): name for raw, name in ids.items()},
        "image_suffix": ".png",
    }


def test_a_checkpoint_is_calibrated_evaluated_and_drawn(run, tmp_path, capsys):
    output = tmp_path / "c.pt"
    tool("calibrate", run, "log.every=3", "--output", output, "--tau", 0, 1, "--choose", 1)
    found = json.loads(capsys.readouterr().out)
    assert found["network"] == str(run)
    assert found["protocol"] == "all"
    assert found["tau"] == 1
    tool("evaluate", run, "--calibration", output)
    said = capsys.readouterr()
    measured = json.loads(said.out)
    assert measured["mIoU"] == pytest.approx(found["after"]["mIoU"])
    assert "calibrated with tau 1" in said.err
    tool("evaluate", run)
    assert json.loads(capsys.readouterr().out)["mIoU"] == pytest.approx(found["before"]["mIoU"])
    picture = tmp_path / "sheet.png"
    widths = []
    for calibrated in ((), ("--calibration", output)):
        tool("draw_predictions", run, "--output", picture, "--frames", 1, *calibrated)
        widths.append(cv2.imread(str(picture)).shape[1])
    assert widths[1] * 3 == widths[0] * 4, "a fourth column beside image, truth and prediction"
    for name, more in (("evaluate", []), ("draw_predictions", ["--output", picture])):
        other = tmp_path / "other.pt"
        Calibration(Calibration.load(output, NAMES).alignment, 0.1, ("a", "b", "c", "d")).save(other)
        assert "'a' where the network has 'road'" in error_of(name, run, *more, "--calibration", other)


def test_statistics_of_training_need_no_images(run, tmp_path, capsys):
    output = tmp_path / "c.pt"
    nowhere = [f"{domain}.reader.images=/nowhere" for domain in ("source", "target", "evaluation")]
    tool("calibrate", run, *nowhere, "--output", output, "--statistics", "checkpoint", "--fit-only")
    found = json.loads(capsys.readouterr().out)
    assert found["statistics"] == "checkpoint"
    assert found["labels_of_target"] == "none"
    states = checkpoint.read(run)
    checkpoint.save(run.with_name("step_000002.pt"), {"student": _State(states["student"])})
    plain = run.with_name("step_000002.pt")
    message = error_of("calibrate", plain, "--output", output, "--statistics", "checkpoint")
    assert "holds no 'source_statistics'" in message


class _State:
    def __init__(self, state: dict) -> None:
        self.state = state

    def state_dict(self) -> dict:
        return self.state


def test_images_are_limited_and_fits_are_reproducible(run, tmp_path, capsys):
    tables = []
    for images in (2, 2, 100):
        output = tmp_path / f"{len(tables)}.pt"
        tool("calibrate", run, "self_training.threshold=0", "--output", output, "--images", images, "--fit-only")
        tables.append(torch.load(output, weights_only=True)["alignment"]["table"])
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])
    assert "--images is 0" in error_of("calibrate", run, "--output", output, "--images", 0)


def test_a_classifier_is_calibrated_and_measured_by_accuracy(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for split in ("train", "validation"):
        for index, name in enumerate(NAMES):
            for number in range(6):
                path = tmp_path / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), rng.integers(0, 120, (24, 20 + number, 3)).astype(np.uint8) + 40 * index)
    train, validation = ({"name": "class_folders", "images": str(tmp_path / s)} for s in ("train", "validation"))
    tree = {
        "run": str(tmp_path),
        "classes": list(NAMES),
        "classification": {"centre": [16, 16]},
        "model": {"encoder": {"name": "small", "channels": [8, 8, 8, 8]}, "head": {"name": "linear"}},
        "source": {"reader": train},
        "target": {"reader": validation},
        "evaluation": {"reader": validation},
        "self_training": {"threshold": 0},
        "blda": {"min_pixels": 1},
        "log": {"bar": False},
        "training": {"workers": 0, "batch": 5},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(tree))
    run = classifier_run(loading.load(tmp_path / "config.yaml", ClassifyConfig), Accelerator(cpu=True))
    path = checkpoint.path_of(tmp_path, 1)
    checkpoint.save(path, {"student": run.networks.student()})
    options = ["--output", tmp_path / "c.pt", "--tau", 0, 1, "--choose", "best-miou"]
    tool("calibrate", path, *options)
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert "mIoU" not in found["sweep"][0]
    assert found["after"]["mAcc"] == max(line["mAcc"] for line in found["sweep"])
    assert "mIoU" not in said.err
    tool("evaluate", path, "--calibration", tmp_path / "c.pt")
    assert json.loads(capsys.readouterr().out)["mAcc"] == pytest.approx(found["after"]["mAcc"])
