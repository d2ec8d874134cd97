"""The Python, YAML and commands of the pages work as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from zipfile import ZipFile

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from blda.config import loading
from blda.data.checks.dataset_check import CheckScope
from blda.data.label_map import label_lookup
from blda.data.protocols import Protocol
from blda.engine.class_lists import write_class_lists
from blda.engine.label_colors import class_colors
from blda.engine.label_pictures import indexed
from blda_video.build import READERS
from blda_video.config import VideoConfig
from blda_video.jobs import data_check, kinds
from pages import ROOT, blocks, section


def test_the_readmes_snippet_runs(capsys) -> None:
    _, snippet = blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python")  # the first: test_python_page.py
    namespace: dict[str, object] = {}
    exec(compile(snippet, "README.md", "exec"), namespace)
    assert namespace["logits"].grad.abs().sum() > 0
    assert namespace["balanced"].source_statistics.estimated.all()
    assert namespace["balanced"].target_statistics.updates == 1
    assert capsys.readouterr().out.startswith("tensor(")


def test_the_readmes_two_commands_are_whole() -> None:
    commands = [
        line
        for block in blocks((ROOT / "README.md").read_text(encoding="utf-8"), "bash")
        for line in block.splitlines()
    ]
    installs = [
        command for command in commands if command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    ]
    assert len(installs) == 2
    # .ci/run takes this one.
    assert [command for command in commands if command.endswith("-m pytest -n 2")] == installs[1:]
    assert installs[0].endswith(" && .venv/bin/blda train demo")


REST = {"model": {"encoder": {"name": "small"}, "head": {"name": "daformer"}}, "run": "runs/x"}
"""Keys that the examples of YAML leave out."""


def own_data(page: str, heading: str) -> dict:
    """The first YAML of a section."""
    return yaml.safe_load(blocks(section((ROOT / page).read_text(encoding="utf-8"), heading), "yaml")[0])


@pytest.mark.parametrize(("page", "heading"), [("README.md", "## Your data"), ("docs/datasets.md", "## Your own data")])
def test_yaml_of_own_data_reads_folders(page: str, heading: str, tmp_path: Path) -> None:
    text = yaml.safe_dump(own_data(page, heading)).replace("/data/", f"{tmp_path}/")
    config = yaml.safe_load(text)
    for domain in config.keys() & {"source", "target", "evaluation"}:
        reader = config[domain]["reader"]
        for key in reader.keys() & {"images", "labels"}:
            Path(reader[key]).mkdir(parents=True, exist_ok=True)
            pixels = (
                np.ones((8, 8, 3), np.uint8) if key == "images" else np.arange(64, dtype=np.uint8).reshape(8, 8) % 3
            )
            for number in (1, 3):
                suffix = reader.get("image_suffix", ".jpg") if key == "images" else ".png"
                assert cv2.imwrite(f"{reader[key]}/{number:04d}{suffix}", pixels)
    config.setdefault("evaluation", {"reader": config["source"]["reader"]})
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**REST, **config}))
    loaded = loading.load(path, VideoConfig)
    for domain, data in (("source", loaded.source), ("target", loaded.target), ("evaluation", loaded.evaluation)):
        keywords = {key: value for key, value in data.reader.items() if key != "name"}
        reader = READERS[data.reader["name"]](**keywords, labelled=domain != "target")
        assert len(reader.frames) == 2
        if domain == "target":
            assert reader.neighbour(reader.frames[0], 1).name == reader.frames[1].name
        elif domain == "source":
            lookup = label_lookup(reader.label_map, reader.ignored, loaded.classes, data.rename)
            assert lookup(reader.read_label(reader.frames[0].label), path).max() == 2


@pytest.mark.parametrize("video", [True, False], ids=["video", "images"])
def test_the_readmes_config_of_own_data_is_whole_and_passes_the_check(video: bool, tmp_path: Path) -> None:
    text = blocks(section((ROOT / "README.md").read_text(encoding="utf-8"), "## Your data"), "yaml")[0]
    if not video:
        text = re.sub(r"^(offsets|flow): .*\n", "", text.replace(", spacing: 2", ""), flags=re.MULTILINE)
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("/data/", f"{tmp_path}/"), encoding="utf-8")
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    readers = [tree[name]["reader"] for name in ("source", "target", "evaluation")]
    for folder, suffix in [(reader[key], key) for reader in readers for key in ("images", "labels") if key in reader]:
        (Path(folder) / "a").mkdir(parents=True)
        picture = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
        ids = np.arange(512 * 512, dtype=np.uint8).reshape(512, 512) % 3
        for number in (1, 3):
            name = f"{folder}/a/{number:04d}{'.jpg' if suffix == 'images' else '.png'}"
            assert cv2.imwrite(name, picture if suffix == "images" else ids)
    kind, _ = kinds.of_run(path)
    assert (kind is VideoConfig) == video
    config = loading.load(path, kind)
    assert (config.model.encoder, config.optimizer.lr) == ({"name": "small"}, 2e-3)
    reports = data_check.check(str(path), [f"run={tmp_path}/run"], CheckScope(opened=2, named=10))
    assert [problem for report in reports for problem in report.problems if problem.fatal] == []
    assert len(reports) == 3


def test_yaml_of_own_rules_of_scoring_is_a_protocol() -> None:
    text = section((ROOT / "docs" / "datasets.md").read_text(encoding="utf-8"), "## Your own data")
    *_, own = (yaml.safe_load(block) for block in blocks(text, "yaml"))
    name, keywords = own["evaluation"]["protocols"]
    assert name == "cityscapes19"
    protocol = Protocol(**{key: tuple(value) if isinstance(value, list) else value for key, value in keywords.items()})
    assert (protocol.name, protocol.merge) == ("drivable", {"truck": "car"})


def cells(text: str, first: str) -> list[str]:
    """The cells of the first table row that begins with `first`, without the first one and without bold."""
    (row, *_) = (line for line in text.splitlines() if line.startswith(f"| {first}"))
    return [cell.strip().replace("*", "") for cell in row.strip("|").split("|")[1:]]


def test_the_readmes_results_are_those_of_the_results_files() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    results = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks" / "results").glob("*.md")}

    seeds = [
        list(map(float, cell.split(","))) for cell in cells(results["camvid_dusk_cpu_2026-11-27.md"], "**mIoU** |")
    ]
    expected = [f"{sum(each) / len(each):.1f} ({min(each)} to {max(each)})" for each in seeds]
    assert cells(readme, "**CamVid day -> dusk**")[1:] == expected

    world = results["recipes_h200_2026-11-27.md"].partition("## Street world -> CamVid")[2]
    seeds = [
        list(map(float, cells(world, method)[0].split(","))) for method in ("source only", "self-training", "**BLDA**")
    ]
    expected = [f"{sum(each) / len(each):.1f} ({min(each):.1f} to {max(each):.1f})" for each in seeds]
    assert cells(readme, "**street world -> CamVid**")[1:] == expected

    means = cells(results["demo_cpu_2026-11-27.md"].replace("mean  ", "| mean | "), "mean")[0].split()[0:5:2]
    assert cells(readme, "the demo's video")[1:] == [f"{float(mean):.1f}" for mean in means]


def test_the_archive_for_cvat(tmp_path: Path, monkeypatch) -> None:
    """The snippet packs label maps as a segmentation mask archive, whose colours its own list names."""
    classes, labels = ("road", "car"), np.array([[0, 1, 1]], np.uint8)
    monkeypatch.chdir(tmp_path)
    write_class_lists(tmp_path / "labels", classes, class_colors(classes))
    (tmp_path / "labels" / "drive").mkdir()
    indexed(labels, class_colors(classes)).save(tmp_path / "labels" / "drive" / "7.png")
    page = blocks((ROOT / "docs" / "inference.md").read_text(encoding="utf-8"), "python")
    (snippet,) = (block for block in page if "cvat.zip" in block)
    exec(compile(snippet, "inference.md", "exec"), {})
    with ZipFile("cvat.zip") as archive:
        assert archive.read("ImageSets/Segmentation/default.txt") == b"drive/7"
        lines = archive.read("labelmap.txt").decode().splitlines()[1:]
        named = {tuple(map(int, line.split(":")[1].split(","))): line.split(":")[0] for line in lines}
        with archive.open("SegmentationClass/drive/7.png") as file, Image.open(file) as picture:
            pixels = picture.convert("RGB")
            assert [named[pixels.getpixel((x, 0))] for x in range(3)] == ["road", "car", "car"]
