"""Trackers of a run: TensorBoard's files, Accelerate's trackers, and who gets what."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import ClassVar

import matplotlib.pyplot as plt
import pytest
import torch
from accelerate import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tiny
from blda.build import tracker_factory
from blda.config.schema import Log
from blda.data.label_map import CLASS_LISTS
from blda.data.protocols import protocol_of
from blda.data.sample import Sample
from blda.engine import accelerate_trackers, score_figures
from blda.engine.accelerate_trackers import AccelerateTracker, Service
from blda.engine.metrics import MeanIoU
from blda.engine.run_log import RunLog
from blda.engine.trackers import PictureTracker, TensorBoardTracker, charts

CLASSES = ("road", "sky", "car")
COUNTS = torch.tensor([[8.0, 2, 0], [0, 0, 0], [1, 0, 3]], dtype=torch.float64)


class Recorder(GeneralTracker):
    """A service that remembers what it is told."""

    name = "recorder"
    requires_logging_directory = False
    made: ClassVar[list[Recorder]] = []

    def __init__(self, project: str, **keywords: object) -> None:
        super().__init__(_blank=True)
        self.project, self.keywords, self.settings = project, keywords, None
        self.numbers, self.images, self.finished = [], [], False
        Recorder.made.append(self)

    def start(self) -> None:
        if self.keywords.get("refuses"):
            raise RuntimeError("no key\nlog in first")

    @property
    def tracker(self) -> Recorder:
        return self

    def store_init_configuration(self, values: dict) -> None:
        self.settings = values

    def log(self, values: dict, step: int | None = None, **_: object) -> None:
        if self.keywords.get("breaks"):
            raise ConnectionError("the server is gone")
        self.numbers.append((step, values))

    def log_images(self, values: dict, step: int | None = None, **_: object) -> None:
        self.images.append((step, {name: images[0].shape for name, images in values.items()}))

    def finish(self) -> None:
        self.finished = True


@pytest.fixture()
def recorder(monkeypatch) -> list[Recorder]:
    """Make Accelerate know the recorder; returns those that are built."""
    PartialState()
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "recorder", Recorder)
    monkeypatch.setattr(accelerate_trackers, "get_available_trackers", lambda: ["tensorboard", "recorder"])
    known = Service(lambda name, folder: {"title": name}, lambda _: "r1", lambda identity: {"again": identity})
    monkeypatch.setitem(accelerate_trackers.SERVICES, "recorder", known)
    monkeypatch.setattr(Recorder, "made", [])
    return Recorder.made


def _scores() -> dict[str, float]:
    metric = MeanIoU(CLASSES, [protocol_of(CLASSES)])
    metric.counts = COUNTS
    temporal = {f"{name}/{c}": 50.0 for name in ("consistency", "flicker") for c in CLASSES}
    return {**metric.compute(), "consistency": 60.0, **temporal, "best_on_validation/mIoU": 1.0}


def _read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def _logged(folder: Path, trackers: list, main: bool = True) -> RunLog:
    log = RunLog(folder, CLASSES, main=main, bar=False, protocol="mine", trackers=trackers)
    log.resume(0)
    log.numbers(1, {"loss/source": 2.0, "learning_rate": 0.1}, {"bias": torch.tensor([0.1, math.nan, 0.2])})
    log.scores(2, _scores(), COUNTS)
    log.pictures(2, {"weight": torch.rand(4, 6), "label": torch.zeros(4, 6, dtype=torch.int64)})
    log.figures(2, lambda: {"statistics": torch.zeros(3, 5, 5, dtype=torch.uint8)})
    sample = Sample(torch.rand(1, 3, 8, 12), torch.zeros(1, 16, 24, dtype=torch.int64), ("a",), (0,))
    log.prediction(2, sample, torch.randn(1, 3, 8, 12))
    return log


def test_tensorboard_opens_on_an_overview(tmp_path: Path) -> None:
    _logged(tmp_path, [TensorBoardTracker(tmp_path, "mine")]).close()
    found = _read(tmp_path)
    scalars, images = found.Tags()["scalars"], found.Tags()["images"]
    groups = sorted({tag.partition("/")[0] for tag in (*scalars, *images)})
    assert groups == ["overview", "target", "train"]
    assert {"overview/mIoU", "overview/consistency", "overview/loss/source"} <= set(scalars)
    assert not [tag for tag in scalars if tag.startswith("overview/") and tag.endswith(CLASSES)]
    assert {f"overview/{name}" for name in ("iou_per_class", "other_measures_per_class", "confusion")} <= set(images)
    assert "target/image_prediction_truth" in images
    assert found.Scalars("overview/mIoU") and found.Scalars("target/iou/road")[0].value == pytest.approx(800 / 11)
    (line,) = (x for x in (tmp_path / "metrics.jsonl").read_text().splitlines() if "protocol" in x)
    same = {name: value for name, value in json.loads(line).items() if name in scalars}
    assert same == pytest.approx({name: found.Scalars(name)[0].value for name in same})
    assert plt.get_fignums() == [], "no figure stays open"


def test_charts_join_the_classes_of_a_measure() -> None:
    layout = charts({f"target/{name}": value for name, value in {**_scores(), "all/mIoU": 1, "all/iou/car": 1}.items()})
    assert set(layout["classes"]) == {"iou", "acc", "consistency", "flicker", "bias"}
    assert layout["overview"]["losses"] == ["Multiline", ["^train/loss/"]]
    assert "^target/mIoU$" in layout["overview"]["scores"][1]


def test_a_continued_run_forgets_what_tensorboard_had_beyond(tmp_path: Path) -> None:
    _logged(tmp_path, [TensorBoardTracker(tmp_path)]).close()
    log = RunLog(tmp_path, CLASSES, trackers=[TensorBoardTracker(tmp_path)])
    log.resume(1)
    log.scores(3, {"mIoU": 7.0})
    log.close()
    assert [event.step for event in _read(tmp_path).Scalars("target/mIoU")] == [3]
    assert [event.step for event in _read(tmp_path).Scalars("train/loss/source")] == [1]


def test_a_service_gets_settings_numbers_and_pictures(tmp_path: Path, recorder) -> None:
    tracker = AccelerateTracker("recorder", "demo/blda", tmp_path, {"seed": 3}, {"project": "p", "mode": "x"})
    assert isinstance(tracker, PictureTracker)
    log = _logged(tmp_path, [tracker])
    (service,) = recorder
    assert (service.project, service.keywords, service.settings) == (
        "p",
        {"title": "demo/blda", "mode": "x"},
        {"seed": 3},
    )
    assert service.numbers[0] == (1, {"train/loss/source": 2.0, "train/learning_rate": 0.1, **_bias()})
    assert service.numbers[1][1]["target/iou/car"] == 75
    names = {name for _, images in service.images for name in images}
    assert {"overview/confusion", "overview/iou_per_class", "train/statistics", "train/label"} <= names
    assert service.images[-1][1]["target/image_prediction_truth"][2] == 3
    log.close()
    assert service.finished


def _bias() -> dict[str, float]:
    first, _, last = torch.tensor([0.1, math.nan, 0.2]).tolist()
    return {"train/bias/road": first, "train/bias/car": last}


def test_a_service_continues_its_run(tmp_path: Path, recorder) -> None:
    for step in (0, 5, 0):
        tracker = AccelerateTracker("recorder", "demo/blda", tmp_path, {"seed": 3}, {})
        tracker.resume(step)
    assert [service.keywords.get("again") for service in recorder] == [None, "r1", None]
    assert [service.settings for service in recorder] == [{"seed": 3}, None, {"seed": 3}]


def test_other_processes_are_silent(tmp_path: Path, recorder) -> None:
    _logged(tmp_path / "run", [TensorBoardTracker(tmp_path / "run"), lambda *_: pytest.fail("called")], main=False)
    assert not (tmp_path / "run").exists()


def test_a_service_that_fails_costs_its_own_numbers_only(tmp_path: Path, recorder, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        _logged(tmp_path, [AccelerateTracker("recorder", "a", tmp_path, {}, {"breaks": True})]).close()
    (said,) = [record.getMessage() for record in caplog.records]
    assert "recorder fails (ConnectionError: the server is gone)" in said and "\n" not in said
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_what_cannot_start_is_one_line(tmp_path: Path, recorder) -> None:
    with pytest.raises(ValueError, match=r"recorder does not start \(RuntimeError: no key\)") as failed:
        AccelerateTracker("recorder", "a", tmp_path, {}, {"refuses": True}).resume(0)
    assert "\n" not in str(failed.value)
    for kind, fix in (("wandb", "pip install wandb"), ("wandbb", "did you mean 'wandb'")):
        with pytest.raises(ValueError, match=fix):
            accelerate_trackers.require(kind)


def test_the_config_names_the_trackers(tmp_path: Path, recorder) -> None:
    def config(*overrides: str):
        return tiny.load(Path("nowhere"), tmp_path / "demo", "image", *overrides)

    default = config(f"log.trackers={list(Log().trackers)}")
    (only,) = tracker_factory.trackers(default, tmp_path / "demo" / "blda", "blda", "mine")
    assert isinstance(only, TensorBoardTracker)
    several = config("log.trackers=[tensorboard, {name: recorder, project: p}]")
    _, service = tracker_factory.trackers(several, tmp_path / "demo" / "blda", "blda", "mine")
    assert (service.name, service.keywords) == ("demo/blda", {"project": "p"})
    assert service.settings["method"] == "blda" and service.settings["training.steps"] == several.training.steps
    assert tracker_factory.trackers(config("log.trackers=[]"), tmp_path, "blda", "mine") == []
    for wrong, said in (("[{project: p}]", "names no tracker"), ("[{name: tensorboard, a: 1}]", "has no a")):
        with pytest.raises(ValueError, match=said):
            tracker_factory.trackers(config(f"log.trackers={wrong}"), tmp_path, "blda", "mine")
    with pytest.raises(ValueError, match="pip install mlflow"):
        tracker_factory.require(config("log.trackers=[mlflow]"))


@pytest.mark.parametrize("count", [2, 19, 60])
def test_figures_of_any_number_of_classes(count: int) -> None:
    names = CLASS_LISTS["cityscapes19"][:count] if count < 20 else tuple(f"class {i}" for i in range(count))
    counts = torch.randint(0, 9, (count, count)).double()
    counts[0] = 0
    picture = score_figures.confusion(counts, names)
    assert picture.dtype == torch.uint8 and picture.shape[0] == 3 and max(picture.shape) <= 1400
    rows = score_figures.rows_normalised(counts)
    assert rows[0].isnan().all() and torch.allclose(rows[1:].sum(1), torch.ones(count - 1).double())
    bars = score_figures.class_bars({"iou": dict.fromkeys(names, 40.0), "acc": {names[0]: math.nan}}, names)
    assert bars.shape[0] == 3
