"""Margins of the whole target image: where no pseudo-label is learnt, wherever the crop lies."""

import numpy as np
import pytest
import torch

from blda.data import seeding
from blda.data.draws import Draw
from blda.data.readers.frames import Frame
from blda.data.sample import Sample, collate
from blda.data.segmentation_dataset import SegmentationDataset
from blda.data.transforms import RandomCrop, inside, random_geometry
from blda.selftraining.pseudo_labels import TeacherLabels

SIZE, MARGINS = (20, 30), (2, 5, 3, 4)


def _whole() -> np.ndarray:
    kept = np.ones(SIZE, np.uint8)
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            if row < 2 or row >= 20 - 5 or column < 3 or column >= 30 - 4:
                kept[row, column] = 0
    return kept


def test_margins_move_with_the_crop_and_its_mirroring():
    seen = set()
    for number in range(60):
        geometry = random_geometry(seeding.generator("margins", number), SIZE, (9, 11), flip=True)
        seen.add((geometry.top, geometry.flip))
        assert np.array_equal(inside(geometry, MARGINS), geometry.cut(_whole()) > 0)
    assert len(seen) > 15


def test_margins_are_of_the_resized_image():
    geometry = RandomCrop(SIZE, (9, 11)).random_geometry(seeding.generator("margins", 0), (40, 60))
    assert np.array_equal(inside(geometry, MARGINS), geometry.cut(_whole()) > 0)


@pytest.mark.parametrize("margins", [(10, 10, 0, 0), (0, 0, 15, 15), (-1, 0, 0, 0)])
def test_margins_that_leave_nothing_are_an_error(margins):
    geometry = random_geometry(seeding.generator("margins", 0), SIZE, (9, 11), flip=False)
    with pytest.raises(ValueError, match=r"leave nothing of \(20, 30\) pixels"):
        inside(geometry, margins)


class _Picture(Frame):
    """An image whose pixels tell where they are: red is the row, green the column."""

    def read(self) -> np.ndarray:
        row, column = np.indices(SIZE, np.uint8)
        return np.stack([row, column, row], -1)


class _Reader:
    frames = (_Picture("a", None, None),)


def _dataset(margins: tuple[int, ...] | None) -> SegmentationDataset:
    return SegmentationDataset(_Reader(), None, RandomCrop(None, (9, 11), margins=margins), seed=0, in_bytes=True)


def _batch(margins: tuple[int, ...] | None) -> Sample:
    return collate([_dataset(margins)[Draw(0, number)] for number in range(8)]).to("cpu")


def test_labels_weigh_nothing_where_the_data_set_trusts_no_pixel():
    batch = _batch(MARGINS)
    row, column = (batch.image[:, :2] * 255).round().long().unbind(1)
    expected = (row >= 2) & (row < 15) & (column >= 3) & (column < 26)
    assert batch.trusted.dtype == torch.bool
    assert torch.equal(batch.trusted, expected)

    def teacher(image: torch.Tensor) -> torch.Tensor:
        return torch.stack([image[:, 0] * 9, 1 - image[:, 1]], 1)

    weight = TeacherLabels(0.6)(teacher, batch).weight
    plain = TeacherLabels(0.6)(teacher, _batch(None)).weight
    assert (plain > 0).all()
    assert torch.equal(weight, plain * expected)


def test_without_margins_nothing_is_carried():
    assert _batch(None).trusted is None
