"""Findings of a check around key frames: neighbours, their sizes, stored flow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blda.data.checks.data_report import DataReport, as_text, works
from blda.data.checks.dataset_check import CheckScope, CheckTarget
from blda.data.transforms import RandomCrop
from blda_video.clips.clip_check import check, neighbours_at
from blda_video.clips.clip_dataset import ClipDataset
from blda_video.clips.fill_store import compute
from blda_video.clips.readers.folder_sequence import FolderSequence
from blda_video.flow.flow_store import FlowStore

SIZE = (20, 30)
ALL = CheckScope(opened=None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos of six frames; in the second, frame 3 is missing."""
    random = np.random.default_rng(0)
    for video in ("a", "b"):
        (tmp_path / "images" / video).mkdir(parents=True)
        for i in set(range(6)) - ({3} if video == "b" else set()):
            Image.fromarray(random.integers(0, 255, (*SIZE, 3), np.uint8)).save(tmp_path / f"images/{video}/{i}.png")
    return tmp_path


def reader_of(folder: Path) -> FolderSequence:
    return FolderSequence(folder / "images", image_suffix=".png", spacing=1)


def still(image: torch.Tensor, neighbour: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(image[:, :2])


def report_of(folder: Path, flow: object = still, offsets: tuple[int, ...] = (-1,), **role: object) -> DataReport:
    def make() -> ClipDataset:
        return ClipDataset(reader_of(folder), None, RandomCrop(crop=(8, 8)), 0, offsets, flow)

    return check(CheckTarget("target", make, ("road",), **role), ALL)


def test_ends_are_no_fault_and_gaps_are(folder: Path) -> None:
    reader = reader_of(folder)
    before = neighbours_at(reader, reader.frames, -1)
    assert (before.found, before.ends, before.gaps) == (8, 2, ("b/4",))
    after = neighbours_at(reader, reader.frames, 2)
    assert (after.found, after.ends, after.gaps) == (6, 4, ("b/1",))
    report = report_of(folder)
    assert works([report]) and report.flows == 0
    (problem,) = report.problems
    assert "1 key frames have no neighbour at offset -1" in problem.text and "b/4" in problem.text
    assert "8 found; without: 2 at the first frames of a video, 1 in gaps" in as_text([report])


def test_no_neighbour_at_all_cannot_work(folder: Path) -> None:
    report = report_of(folder, offsets=(-9,))
    assert not works([report]) and "no frame has a neighbour at offset -9" in report.problems[0].text


def test_a_neighbour_that_cannot_be_used_is_named(folder: Path) -> None:
    Image.new("RGB", (15, 10)).save(folder / "images/a/2.png")
    (folder / "images/b/0.png").write_bytes(b"")
    found = [problem.text for problem in report_of(folder).problems if problem.fatal]
    assert sum("a/3.png" in text and "one size" in text for text in found) == 1
    assert sum("b/0.png" in text for text in found) == 1, "as a key frame and as a neighbour, but told once"
    assert works([report_of(folder, skip_unreadable=True)])


def test_stored_flow_is_looked_for_both_ways(folder: Path) -> None:
    store = FlowStore(folder / "flow", "still")
    report = report_of(folder, store)
    assert (report.flows, len(report.missing)) == (16, 16)
    assert not works([report]) and not works([report_of(folder, store, skip_unreadable=True)])
    assert any("16 of 16 flows" in p.text and "blda compute-flow CONFIG" in p.text for p in report.problems)
    assert compute(reader_of(folder), (-1,), still, store, progress=False) == 16
    assert works([report_of(folder, store)])
    store.path("a/1", "a/0").unlink()
    report = report_of(folder, store)
    assert (report.flows, report.missing) == (16, (str(store.path("a/1", "a/0")),))
    assert not works([report]) and works([report_of(folder, store, skip_unreadable=True)])
    store.path("a/1", "a/2").write_bytes(b"half a file")
    assert any("corrupt flow file" in problem.text for problem in report_of(folder, store).problems)


def test_flow_is_computed_past_bad_frames_only_when_told(folder: Path, caplog) -> None:
    store = FlowStore(folder / "flow", "still")
    (folder / "images/a/2.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a/2\.png"):
        compute(reader_of(folder), (-1,), still, store, progress=False)
    written = compute(reader_of(folder), (-1,), still, store, progress=False, skip_unreadable=True)
    assert store.has("a/4", "a/5") and not store.has("a/2", "a/1") and not store.has("a/3", "a/2")
    assert len(report_of(folder, store).missing) == 4 and written > 0
    assert sum("a/2.png" in record.getMessage() for record in caplog.records) == 2
