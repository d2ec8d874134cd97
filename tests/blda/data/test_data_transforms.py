"""One geometry for everything."""

from __future__ import annotations

import numpy as np
import pytest

from blda.data import seeding
from blda.data.transforms import Geometry, RandomCrop, random_geometry, whole
from resizing import resize_image, resize_label


def picture(height: int = 40, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """A label of 5 x 5 blocks and the image that shows it."""
    label = np.random.default_rng(0).integers(0, 19, (height // 5, width // 5), np.uint8).repeat(5, 0).repeat(5, 1)
    return np.stack([label * 10] * 3, -1), label


def test_flip_twice_is_nothing() -> None:
    image, label = picture()
    flipped = Geometry((40, 60), 0, 0, 40, 60, flip=True)
    assert (flipped.image(flipped.image(image)) == image).all()
    assert (flipped.label(label) == label[:, ::-1]).all()
    assert (whole((40, 60)).image(image) == image).all()


@pytest.mark.parametrize("resize", [(40, 60), (80, 120), (120, 180)])
def test_image_and_label_stay_aligned(resize: tuple[int, int]) -> None:
    image, label = picture()
    for number in range(20):
        geometry = random_geometry(seeding.generator("test", number), resize, (32, 48), flip=True)
        shown, named = geometry.image(image), geometry.label(label)
        assert shown.shape == (32, 48, 3) and named.shape == (32, 48)
        exact = np.abs(shown[..., 0].astype(int) - named.astype(int) * 10) == 0
        assert exact.mean() > (0.99 if resize == (40, 60) else 0.55)


def test_resizing_keeps_centres_in_place() -> None:
    ramp = np.tile(np.arange(0, 240, 1, dtype=np.uint8), (32, 1))
    for size in ((16, 120), (8, 60), (64, 480)):
        shown = resize_image(np.stack([ramp] * 3, -1), size)[size[0] // 2, :, 0].astype(float)
        named = resize_label(ramp, size)[size[0] // 2].astype(float)
        inner = slice(4, -4)
        factor = 240 / size[1]
        expected = (np.arange(size[1]) + 0.5) * factor - 0.5
        assert np.abs(shown - expected)[inner].max() <= 1
        assert np.abs(named - expected)[inner].max() <= 1


def test_strong_shrinking_averages() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(resize_image(stripes, (8, 8)).astype(int) - 100).max() <= 1


def test_draw_is_a_function_of_the_generator_and_covers_the_image() -> None:
    drawn = [random_geometry(seeding.generator("test", n), (6, 7), (4, 4), flip=True) for n in range(200)]
    assert drawn == [random_geometry(seeding.generator("test", n), (6, 7), (4, 4), flip=True) for n in range(200)]
    assert {(g.top, g.left, g.flip) for g in drawn} == {
        (top, left, flip) for top in range(3) for left in range(4) for flip in (False, True)
    }
    assert not any(random_geometry(seeding.generator("test", n), (6, 7), (4, 4), flip=False).flip for n in range(50))


def test_crop_must_fit() -> None:
    with pytest.raises(ValueError, match=r"crop \(8, 8\) is larger than the image \(6, 7\)"):
        RandomCrop(crop=(8, 8)).random_geometry(seeding.generator("test", 0), (6, 7))


def test_no_crop_no_resize_is_the_whole_image() -> None:
    assert RandomCrop(flip=False).random_geometry(seeding.generator("test", 0), (6, 7)) == whole((6, 7))


def test_one_class_does_not_fill_the_crop() -> None:
    label = np.zeros((64, 256), np.uint8)
    label[:, 224:] = np.arange(32, dtype=np.uint8) % 19
    shares = {True: [], False: []}
    for number in range(60):
        for guarded in shares:
            transform = RandomCrop(crop=(64, 64), max_share=0.75 if guarded else 2.0)
            cut = transform.random_geometry(seeding.generator("test", number), label.shape, label).label(label)
            shares[guarded].append((cut == 0).mean() < 0.75)
    assert np.mean(shares[True]) > 2 * np.mean(shares[False])


def test_ignored_pixels_do_not_count_as_a_class() -> None:
    label = np.full((8, 8), 255, np.uint8)
    geometry = RandomCrop(crop=(4, 4)).random_geometry(seeding.generator("test", 0), label.shape, label)
    assert geometry.label(label).shape == (4, 4)


def test_wanted_class_is_in_the_crop() -> None:
    label = np.random.default_rng(0).integers(0, 5, (64, 256), np.uint8)
    label[:32, :32] = 7
    transform = RandomCrop(crop=(48, 64), min_pixels=200)
    shown = [
        np.count_nonzero(
            transform.random_geometry(seeding.generator("test", n), label.shape, label, wanted).label(label) == 7
        )
        > 200
        for wanted in (7, None)
        for n in range(60)
    ]
    assert np.mean(shown[:60]) > 2 * np.mean(shown[60:])
