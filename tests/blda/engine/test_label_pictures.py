"""Colours by class name, and the pictures, legends and lists that use them."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blda.data.label_map import CITYSCAPES19, CLASS_LISTS
from blda.data.sample import IGNORE
from blda.engine import confusion_file, label_pictures
from blda.engine.class_lists import CLASSES, LABEL_MAP, write_class_lists
from blda.engine.label_colors import CITYSCAPES, class_colors, colours, palette, to_rgb

ROAD, SIDEWALK, TREE = CITYSCAPES[0], CITYSCAPES[1], CITYSCAPES[8]
MANY = tuple(f"class number {i}" for i in range(255))


def test_a_class_has_one_colour_whatever_the_list() -> None:
    assert colours(CITYSCAPES19) == CITYSCAPES
    for name in ("synthia16", "viper15", "synthia_seq11"):
        assert colours(CLASS_LISTS[name]) == tuple(CITYSCAPES[CITYSCAPES19.index(each)] for each in CLASS_LISTS[name])
    camvid = dict(zip(CLASS_LISTS["camvid11"], colours(CLASS_LISTS["camvid11"]), strict=True))
    assert (camvid["road"], camvid["pavement"], camvid["tree"]) == (ROAD, SIDEWALK, TREE)
    assert colours(("Traffic-Light", "traffic_sign", "Sky")) == (CITYSCAPES[6], CITYSCAPES[7], CITYSCAPES[10])


def test_classes_of_one_list_never_share_a_colour() -> None:
    names = ("tree", "vegetation", "pedestrian", "person", "animal")
    found = dict(zip(names, colours(names), strict=True))
    assert len(set(found.values())) == 5
    assert found["vegetation"] == TREE, "Cityscapes' own name goes first"
    assert len({*colours(MANY), (0, 0, 0)}) == 256
    assert colours(MANY) == colours(tuple(MANY))


def test_other_classes_are_far_from_all_that_are_taken() -> None:
    names = (*CITYSCAPES19, "animal", "lane marking", "pothole")
    table = np.array(colours(names), float)
    gaps = [np.abs(a - b).max() for a, b in combinations(table, 2) if {tuple(a), tuple(b)} - set(CITYSCAPES)]
    assert min(gaps) > 60
    assert np.abs(table).max(1).min() > 60, "and from black, which is no class"


def test_the_palette_is_black_where_there_is_no_class() -> None:
    table = palette(("road", "lane"))
    assert tuple(table[0].tolist()) == ROAD and not table[2:].any() and table.shape == (256, 3)
    painted = to_rgb(torch.tensor([[0, IGNORE]]), ("road", "lane"))
    assert painted[:, 0, 0].tolist() == list(ROAD) and not painted[:, 0, 1].any()
    assert palette(()).shape == (256, 3)


def test_an_overlay_blends_by_its_strength() -> None:
    image, labels = np.full((2, 3, 3), 100, np.uint8), np.array([[0, 1, IGNORE]] * 2, np.uint8)
    colors = class_colors(("road", "sky"))
    assert np.array_equal(label_pictures.blended(image, labels, colors, 0), image)
    assert np.array_equal(label_pictures.blended(image, labels, colors, 1)[0, :2], colors)
    half = label_pictures.blended(image, labels, colors, 0.5)
    assert np.abs(half[0, 0].astype(int) - (100 + colors[0].astype(int)) / 2).max() <= 1
    with pytest.raises(ValueError, match=r"strength .* 1\.5"):
        label_pictures.blended(image, labels, colors, 1.5)


@pytest.mark.parametrize("width", [64, 320, 2048])
def test_a_legend_shows_every_class_within_the_width(width: int) -> None:
    strip = label_pictures.legend(CITYSCAPES19, class_colors(CITYSCAPES19), width)
    assert strip.shape[1] == width
    shown = {tuple(colour) for colour in strip.reshape(-1, 3).tolist()}
    assert set(CITYSCAPES) <= shown
    few = label_pictures.legend(CITYSCAPES19, class_colors(CITYSCAPES19), width, [0, 13])
    assert {ROAD, CITYSCAPES[13]} <= {tuple(c) for c in few.reshape(-1, 3).tolist()} and len(few) <= len(strip)
    assert SIDEWALK not in {tuple(c) for c in few.reshape(-1, 3).tolist()}


def test_text_grows_with_the_picture() -> None:
    sizes = [label_pictures.text_size(width) for width in (64, 320, 1024, 2048, 8000)]
    assert sizes == sorted(sizes) and sizes[1] >= 11 and 24 <= sizes[3] <= sizes[4] <= 32


def test_the_legend_of_a_video_has_one_height() -> None:
    colors = class_colors(MANY)
    frames = [np.zeros((4, 4), np.uint8), np.arange(250, dtype=np.uint8).reshape(10, 25)]
    first, second = (label_pictures.fixed_legend(MANY, colors, frame, 320) for frame in frames)
    assert first.shape == second.shape and len(first) < 120
    assert not np.array_equal(first, second)


def test_a_sheet_joins_panels_of_any_size() -> None:
    rows = [
        [np.zeros((50, 100, 3), np.uint8)] * 3,
        [np.zeros((40, 60, 3), np.uint8), *[np.ones((5, 5, 3), np.uint8)] * 2],
    ]
    sheet = label_pictures.sheet(rows, ["image", "truth", "a very long name of a run, step 700000"], CITYSCAPES19, {1})
    assert sheet.shape[1] == 600 and len(sheet) > 100 + 133
    assert tuple(sheet[0, 0]) == (255, 255, 255)
    assert tuple(SIDEWALK) in {tuple(c) for c in sheet.reshape(-1, 3).tolist()}


def test_seen_leaves_out_what_is_no_class() -> None:
    assert label_pictures.seen(np.array([[3, IGNORE]]), np.array([[1, 3, 20]]), num_classes=19) == [1, 3]


def test_lists_for_annotation_tools(tmp_path: Path) -> None:
    names = ("road", "light: red")
    write_class_lists(tmp_path, names, class_colors(names))
    lines = (tmp_path / LABEL_MAP).read_text().splitlines()
    assert lines[:3] == ["# label:color_rgb:parts:actions", "background:0,0,0::", "road:128,64,128::"]
    assert all(line.count(":") == 3 for line in lines)
    first, second = json.loads((tmp_path / CLASSES).read_text())
    assert first == {"id": 0, "name": "road", "color": "#804080"} and second["name"] == "light: red"


def test_an_indexed_picture_has_ids_and_colours(tmp_path: Path) -> None:
    label_pictures.indexed(np.array([[0, 1]], np.uint8), class_colors(("road", "sky"))).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "P" and np.asarray(picture).tolist() == [[0, 1]]
        assert picture.convert("RGB").getpixel((0, 0)) == ROAD


def test_a_confusion_matrix_as_a_file(tmp_path: Path) -> None:
    counts, names = torch.tensor([[8.0, 2], [0, 0]], dtype=torch.float64), ("road", "a, b")
    for suffix in confusion_file.SUFFIXES:
        confusion_file.write(tmp_path / f"m{suffix}", counts, names)
    assert (tmp_path / "m.csv").read_text() == 'truth / prediction,road,"a, b"\nroad,8,2\n"a, b",0,0\n'
    assert json.loads((tmp_path / "m.json").read_text())["pixels"] == [[8, 2], [0, 0]]
    with Image.open(tmp_path / "m.png") as picture:
        assert picture.mode == "RGB" and min(picture.size) > 100
    with pytest.raises(ValueError, match=r"ends in \.png"):
        confusion_file.write(tmp_path / "m.txt", counts, names)
