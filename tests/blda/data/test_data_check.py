"""Findings of a data set's check, and training that goes on past files it cannot use."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blda.data.checks.data_report import DataReport, as_json, as_text, require, works
from blda.data.checks.dataset_check import CheckScope, CheckTarget, check, spread
from blda.data.checks.label_frequencies import count_ids
from blda.data.class_statistics import count_classes
from blda.data.draws import Draw
from blda.data.label_map import label_lookup
from blda.data.loader import endless_loader
from blda.data.readers.image_folder import FolderReader
from blda.data.sampler import DrawSampler, RareClassSampler
from blda.data.segmentation_dataset import EvaluationDataset, SegmentationDataset
from blda.data.skip_unreadable import ATTEMPTS, SkipUnreadable
from blda.data.transforms import RandomCrop

IDS = {0: "road", 1: "sky", 2: "car"}
CLASSES = ("road", "sky", "car", "bus")
TABLE = label_lookup(IDS, (255,), CLASSES)
ALL = CheckScope(opened=None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six frames of 20 x 30; a row of 255, then road, with sky in frames 0 to 3; no car."""
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for i in range(6):
        label = np.zeros((20, 30), np.uint8)
        label[0] = 255
        label[1:5] = i < 4
        Image.fromarray(np.full((20, 30, 3), 40 * i, np.uint8)).save(tmp_path / f"images/{i}.png")
        Image.fromarray(label).save(tmp_path / f"labels/{i}.png")
    return tmp_path


def dataset_of(folder: Path, labelled: bool = True, crop: tuple[int, int] = (8, 12)) -> SegmentationDataset:
    reader = FolderReader(folder / "images", folder / "labels" if labelled else None, IDS, image_suffix=".png")
    return SegmentationDataset(reader, TABLE if labelled else None, RandomCrop(crop=crop, min_pixels=0), seed=3)


def report_of(folder: Path, scope: CheckScope = ALL, **role: object) -> DataReport:
    return check(CheckTarget("source", lambda: dataset_of(folder), CLASSES, **role), scope)


def texts(report: DataReport, fatal: bool = True) -> list[str]:
    return [problem.text for problem in report.problems if problem.fatal == fatal]


def test_a_sound_data_set_is_counted(folder: Path) -> None:
    report = report_of(folder)
    assert (report.frames, report.opened, report.pairs, report.sizes) == (6, 6, 6, {"20 x 30": 6})
    assert report.ignored == {255: 6 * 30}
    assert report.classes.frames == {"road": 6, "sky": 4, "car": 0, "bus": 0}
    assert report.classes.share["sky"] == pytest.approx(100 * 4 * 120 / (6 * 570))
    assert sum(report.classes.share.values()) == pytest.approx(100)
    assert report.problems == () and works([report])
    require(report)
    assert report_of(folder, replace(ALL, workers=2)) == report, "processes see what one sees"


def test_a_sample_is_spread_and_repeatable(folder: Path) -> None:
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(3, 64) == spread(3, None) == [0, 1, 2]
    assert spread(5, 0) == [0]
    assert len(spread(13367, 64)) == 64
    assert report_of(folder, CheckScope(opened=2)).opened == 2
    assert report_of(folder, CheckScope(opened=2)) == report_of(folder, CheckScope(opened=2))


@pytest.mark.parametrize("skip_unreadable", [False, True])
def test_each_bad_file_is_named_with_its_reason(folder: Path, skip_unreadable: bool) -> None:
    whole = (folder / "images/0.png").read_bytes()
    (folder / "images/0.png").write_bytes(whole[: len(whole) // 2])
    Image.new("L", (30, 20), 9).save(folder / "labels/1.png")
    Image.new("L", (15, 10)).save(folder / "labels/2.png")
    Image.new("RGB", (30, 20)).save(folder / "labels/3.png")
    report = report_of(folder, skip_unreadable=skip_unreadable)
    found = texts(report, fatal=not skip_unreadable)
    for part in ("images/0.png", "labels/1.png holds unknown ids 9", "its label", "not colours"):
        assert sum(part in text for text in found) == 1, part
    (unknown,) = report.unknown
    assert (Path(unknown.file).name, unknown.id, unknown.pixels) == ("1.png", 9, 600)
    assert works([report]) == skip_unreadable
    if not skip_unreadable:
        with pytest.raises(ValueError, match=r"source data: .*0\.png.*blda check-data CONFIG\)$"):
            require(report)


def test_nothing_usable_is_an_error_even_when_tolerant(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.write_bytes(b"")
    assert not works([report_of(folder, skip_unreadable=True)])


def test_a_data_set_that_cannot_be_made_is_reported(folder: Path) -> None:
    (folder / "labels/4.png").unlink()
    (text,) = texts(report_of(folder))
    assert "4.png" in text
    (folder / "labels/4.png").symlink_to(folder / "nowhere.png")
    assert "4.png" in texts(report_of(folder))[0]
    for path in (folder / "images").iterdir():
        path.unlink()
    assert "no file" in texts(report_of(folder))[0]


def test_classes_asked_for_in_vain(folder: Path) -> None:
    report = report_of(folder, asked={"the run": CLASSES, "protocol two": ("road", "sky")})
    no_id, unseen = texts(report, fatal=False)
    assert "the run has bus, for which the data set has no id" in no_id
    assert "the run has car, which none of 6 labels shows" in unseen
    for path in (folder / "labels").iterdir():
        Image.new("L", (30, 20), 255).save(path)
    assert "none of 6 labels shows a class of the run" in texts(report_of(folder))[0]
    assert works([report_of(folder, CheckScope(opened=2, labels=2))]), "two labels do not say that"


def test_a_crop_that_does_not_fit_is_named(folder: Path) -> None:
    report = check(CheckTarget("source", lambda: dataset_of(folder, crop=(64, 64)), CLASSES), CheckScope(opened=1))
    assert "0.png: crop (64, 64) is larger than the image" in texts(report)[0]


def test_evaluation_and_unlabelled_data(folder: Path) -> None:
    reader = dataset_of(folder).reader
    report = check(CheckTarget("evaluation", lambda: EvaluationDataset(reader, TABLE), CLASSES), ALL)
    assert report.classes.labels == 6 and not report.problems
    for path in (folder / "labels").iterdir():
        path.write_bytes(b"never read")
    report = check(CheckTarget("target", lambda: dataset_of(folder, labelled=False), CLASSES), ALL)
    assert report.classes is None and report.pairs == 0 and not report.problems


def test_statistics_of_all_frames_replace_the_sample_s(folder: Path, tmp_path: Path) -> None:
    def count(dataset: SegmentationDataset):
        return count_classes(dataset.reader, dataset.lookup, len(CLASSES), tmp_path / "cache")

    report = report_of(folder, CheckScope(opened=1), count=count, min_pixels=300)
    assert report.classes.labels == 6
    (rare,) = texts(report, fatal=False)
    assert "never draws sky (at most 120)" in rare and "min_pixels" in rare
    assert "min_pixels" in texts(report_of(folder, count=count, min_pixels=10_000))[0]
    (folder / "labels/5.png").write_bytes(b"")
    assert any("5.png" in text for text in texts(report_of(folder, CheckScope(opened=1), count=count)))


def test_report_as_text_and_json(folder: Path) -> None:
    (folder / "labels/1.png").write_bytes(b"")
    reports = [report_of(folder, asked={"the run": CLASSES}), DataReport("target")]
    text = as_text(reports)
    assert "error: source: cannot read" in text and "warning: source: the run has bus" in text
    assert text.endswith("training could not work (errors: 1, warnings: 2)")
    record = json.loads(json.dumps(as_json(reports)))
    assert record["works"] is False and record["data"]["source"]["classes"]["frames"]["sky"] == 3
    many = replace(reports[0], problems=reports[0].problems[:1] * 9)
    assert "4 more of this kind" in as_text([many])


def test_ids_of_any_type_are_counted() -> None:
    raw = np.array([[3, 3], [7, 300]])
    assert count_ids(raw) == {3: 2, 7: 1, 300: 1}
    assert count_ids(raw.clip(max=255).astype(np.uint8)) == {3: 2, 7: 1, 255: 1}
    assert count_ids(np.array(-4)) == {-4: 1}


def test_class_pixels_go_past_bad_labels_only_when_told(folder: Path, tmp_path: Path) -> None:
    (folder / "labels/2.png").write_bytes(b"")
    (folder / "labels/3.png").unlink()
    dataset, cache = dataset_of_names(folder), tmp_path / "cache"
    for _ in ("counted", "cached"):
        counts = count_classes(dataset.reader, TABLE, 4, cache)
        assert list(counts.unusable) == ["2", "3"]
        assert counts.pixels[2:4].sum() == 0 and counts.pixels[1, 1] == 120
    with pytest.raises((ValueError, FileNotFoundError), match=r"[23]\.png"):
        count_classes(dataset.reader, TABLE, 4, cache, skip_unreadable=False)


def dataset_of_names(folder: Path) -> SegmentationDataset:
    """Of a reader that was made before a label vanished."""
    label = folder / "labels/3.png"
    label.write_bytes(b"")
    dataset = dataset_of(folder)
    label.unlink()
    return dataset


def test_an_unwritable_cache_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cannot write .*set data\.cache"):
        count_classes(dataset_of(folder).reader, TABLE, 4, tmp_path / "file" / "cache", skip_unreadable=False)


# Training past files that cannot be used:


@pytest.mark.parametrize("workers", [0, 2])
def test_a_vanished_file_is_replaced_counted_and_told_once(folder: Path, workers: int, caplog) -> None:
    dataset, sampler = dataset_of(folder), DrawSampler(6, 2, seed=5)
    untouched = [batch.image for batch in islice(endless_loader(dataset, sampler), 9)]
    skip_unreadable = SkipUnreadable(dataset, sampler)
    assert same(untouched, [batch.image for batch in islice(endless_loader(skip_unreadable, sampler), 9)])
    (folder / "images/2.png").unlink()
    with caplog.at_level(logging.WARNING):
        batches = list(islice(endless_loader(skip_unreadable, sampler, workers), 9))
    assert [number for batch in batches for number in batch.draw] == list(range(18)), "numbers stay"
    assert all(name != "2" for batch in batches for name in batch.name)
    asked = [sampler.draw(number).index for number in range(18)]
    kept = [index for batch in batches for index in map(int, batch.name)]
    assert [i for i, index in enumerate(asked) if index != 2] == [
        i for i, index in enumerate(asked) if index == kept[i] and index != 2
    ]
    assert skip_unreadable.replaced() >= asked.count(2) == 3
    if not workers:
        (said,) = [record.getMessage() for record in caplog.records]
        assert "2.png" in said
    again = SkipUnreadable(dataset, sampler)
    assert same([b.image for b in batches], [b.image for b in islice(endless_loader(again, sampler), 9)])
    resumed = DrawSampler(6, 2, seed=5, start_step=4)
    assert same([b.image for b in batches[4:]], [b.image for b in islice(endless_loader(again, resumed), 5)])


def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_too_many_in_a_row_stop_with_the_last_reason(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.write_bytes(b"")
    dataset, sampler = dataset_of(folder), DrawSampler(6, 1)
    skip_unreadable = SkipUnreadable(dataset, sampler)
    with pytest.raises(ValueError, match=rf"{ATTEMPTS} frames in a row .*cannot read .*png"):
        skip_unreadable[Draw(0, 0)]
    assert skip_unreadable.replaced() == ATTEMPTS
    with pytest.raises(ValueError, match="frames in a row"):
        next(iter(endless_loader(skip_unreadable, sampler, workers=1)))


def test_a_rare_class_stays_wanted_while_another_frame_shows_it() -> None:
    pixels = np.array([[5, 0], [5, 5], [5, 5], [5, 0]])
    sampler = RareClassSampler(pixels, 1, min_pixels=1)
    draw = Draw(1, 7, wanted=1)
    assert sampler.instead(draw, 0) == Draw(2, 7, wanted=1)
    later = [sampler.instead(draw, attempt) for attempt in range(5, 30)]
    assert {other.index for other in later} == {0, 2, 3} and {other.wanted for other in later} == {None}
    alone = RareClassSampler(np.array([[5, 0], [5, 5], [5, 0]]), 1, min_pixels=1)
    assert alone.instead(draw, 0).index in (0, 2) and alone.instead(draw, 0).wanted is None
    assert alone.instead(draw, 0) == alone.instead(draw, 0)
    assert DrawSampler(1, 1).instead(Draw(0, 4), 0) == Draw(0, 4)
