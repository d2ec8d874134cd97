"""Crops of resized images are the pixels of resizing everything first, and are drawn as by the whole label."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from blda.data import seeding
from blda.data.draws import Draw
from blda.data.label_map import LabelLookup, label_lookup
from blda.data.readers.decoding import read_image
from blda.data.readers.image_folder import FolderReader
from blda.data.sample import IGNORE, collate
from blda.data.segmentation_dataset import SegmentationDataset, byte_tensor, image_tensor, label_tensor, read_frame
from blda.data.span import span
from blda.data.transforms import TRIES, Geometry, RandomCrop, random_geometry
from resizing import resize_image, resize_label

RESIZES = (
    ((1080, 1920), (720, 1280)),  # VIPER: 3 / 2
    ((1024, 2048), (512, 1024)),  # Cityscapes: 2, where OpenCV averages
    ((1052, 1914), (720, 1280)),  # GTA5: 263 / 180 and 957 / 640
    ((760, 1280), (760, 1280)),
    ((720, 1280), (540, 1280)),  # one axis alone
    ((135, 240), (180, 320)),  # larger
    ((150, 260), (60, 104)),  # 5 / 2: area averages
    ((600, 400), (150, 100)),
    ((97, 131), (64, 256)),
)


def cut_after(pixels: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The plain way: of what has been resized whole."""
    rows = slice(geometry.top, geometry.top + geometry.height)
    crop = pixels[rows, geometry.left : geometry.left + geometry.width]
    return crop[:, ::-1] if geometry.flip else crop


@pytest.mark.parametrize(("old", "new"), RESIZES)
def test_a_window_has_the_pixels_of_the_whole(old: tuple[int, int], new: tuple[int, int]) -> None:
    numbers = np.random.default_rng(0)
    image, label = numbers.integers(0, 256, (*old, 3), np.uint8), numbers.integers(0, 256, old, np.uint8)
    resized, named = resize_image(image, new), resize_label(label, new)
    generator = seeding.generator("test", *new)
    for number in range(8):
        crop = tuple(int(numbers.integers(1, side + 1)) for side in new) if number else new
        geometry = random_geometry(generator, new, crop, flip=True)
        assert np.array_equal(geometry.image(image), cut_after(resized, geometry)), geometry
        assert np.array_equal(geometry.label(label), cut_after(named, geometry)), geometry


@pytest.mark.parametrize(
    ("old", "new", "read"), [(1920, 1280, 771), (2048, 1024, 1024), (1280, 1280, 514), (720, 1440, 260)]
)
def test_no_more_is_read_than_needed(old: int, new: int, read: int) -> None:
    found = span(old, new, 301, 512)
    assert found.source.stop - found.source.start <= read
    assert found.part.stop - found.part.start == 512 and found.part.stop <= found.size
    assert span(1914, 1280, 301, 512).source == slice(0, 1914)


def drawn_plainly(
    crop: RandomCrop, generator: torch.Generator, label: np.ndarray, wanted: int | None
) -> tuple[Geometry, np.ndarray]:
    """Draw as `RandomCrop.draw` promises to, on the whole label of classes."""
    named = resize_label(label, crop.resize(label.shape))
    for _ in range(TRIES):
        for _ in range(TRIES):
            geometry = random_geometry(generator, named.shape, crop.crop, crop.flip)
            shown = cut_after(named, geometry)
            pixels = np.bincount(shown.ravel(), minlength=256)[:IGNORE]
            if pixels.max() < crop.max_share * pixels.sum():
                break
        if wanted is None or np.count_nonzero(shown == wanted) > crop.min_pixels:
            break
    return geometry, shown


@pytest.mark.parametrize("resize", [None, (72, 96), (61, 90)])
def test_crops_are_drawn_as_by_the_whole_label(resize: tuple[int, int] | None) -> None:
    ids = np.random.default_rng(1).integers(0, 12, (12, 16), np.uint8).repeat(9, 0).repeat(9, 1)
    ids[:, :90] = 3
    classes = np.array([0, 1, 1, 2, IGNORE, 5, 6, 2, 8, 9, 10, 0, *[IGNORE] * 244], np.uint8)
    crop = RandomCrop(resize, (40, 50), min_pixels=300)
    for number in range(40):
        wanted = (None, 6, 8)[number % 3]
        expected, shown = drawn_plainly(crop, seeding.generator("test", number), classes[ids], wanted)
        geometry, cut = crop.random_label_geometry(seeding.generator("test", number), ids, classes, wanted)
        assert geometry == expected
        assert np.array_equal(classes[cut], shown)
        assert crop.random_geometry(seeding.generator("test", number), ids.shape, classes[ids], wanted) == expected


@pytest.mark.parametrize("legal", [range(256), range(12), range(5, 12), (*range(19), 255), (0, 3, 7), (255,)])
def test_ids_are_checked_and_looked_up(legal: range | tuple[int, ...], tmp_path: Path) -> None:
    lookup = np.full(256, -1, np.int16)
    lookup[list(legal)] = np.arange(len(legal))
    ids = np.random.default_rng(0).choice(np.array(legal, np.uint8), (20, 30))
    for raw in (ids, ids.astype(np.uint16), ids.astype(np.int64)):
        compact, classes = LabelLookup(lookup).compact(raw, tmp_path)
        assert compact.dtype == classes.dtype == np.uint8 and len(classes) == 256
        assert np.array_equal(classes[compact], lookup[ids])
        assert np.array_equal(LabelLookup(lookup)(raw, tmp_path), lookup[ids])
    for wrong in sorted(set(range(256)) - set(legal))[::17]:
        with pytest.raises(ValueError, match=f"holds unknown ids {wrong};"):
            LabelLookup(lookup).compact(np.where(ids == ids[3, 4], np.uint8(wrong), ids), tmp_path)


def test_bytes_are_opened_to_the_very_floats() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = np.stack((ramp, ramp.T, 255 - ramp), -1)
    plain = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float().div_(255)
    assert torch.equal(image_tensor(image), plain)
    assert torch.equal(image_tensor(image[:, ::-1]), plain.flip(-1))
    assert torch.equal(byte_tensor(image).float().div_(255), plain)


def test_training_crops_in_bytes_become_the_plain_ones(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for i in range(2):
        Image.fromarray(numbers.integers(0, 256, (54, 96, 3), np.uint8)).save(tmp_path / f"images/{i}.png")
        Image.fromarray(numbers.integers(0, 2, (54, 96), np.uint8)).save(tmp_path / f"labels/{i}.png")
    ids = {0: "road", 1: "sky"}
    reader = FolderReader(tmp_path / "images", tmp_path / "labels", ids, image_suffix=".png")
    lookup, crop = label_lookup(ids, (), ("sky", "road")), RandomCrop((36, 64), (24, 32))
    plain, packed = (SegmentationDataset(reader, lookup, crop, 3, in_bytes=packed) for packed in (False, True))
    for draw in (Draw(0, 0), Draw(1, 1), Draw(1, 2, wanted=1)):
        expected, found = plain[draw], packed[draw]
        assert found.image.dtype == found.label.dtype == torch.uint8
        image, label = read_frame(reader, lookup, reader.frames[draw.index])
        _, geometry, _ = plain.cut(draw)
        shown = cut_after(resize_image(image, (36, 64)), geometry)
        assert torch.equal(expected.image, image_tensor(np.ascontiguousarray(shown)))
        assert torch.equal(expected.label, label_tensor(cut_after(resize_label(label, (36, 64)), geometry)))
        for opened in (found.to("cpu"), collate([found]).to("cpu")):
            assert opened.image.dtype == torch.float32 and torch.equal(opened.image, expected.image)
            assert opened.label.dtype == torch.int64 and torch.equal(opened.label, expected.label)


def test_the_channels_of_a_file_are_red_green_blue(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    for suffix in (".png", ".jpg"):
        Image.fromarray(image).save(tmp_path / f"a{suffix}")
        swapped = cv2.imread(str(tmp_path / f"a{suffix}"), cv2.IMREAD_COLOR)
        assert np.array_equal(read_image(tmp_path / f"a{suffix}"), swapped[..., ::-1])
