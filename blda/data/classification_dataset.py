"""Data sets of images that have one class each."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from blda.data import seeding
from blda.data.checks.dataset_check import Seen
from blda.data.draws import Draw
from blda.data.label_map import LabelLookup
from blda.data.random_resized_crop import center_crop
from blda.data.readers.frames import Frame, Reader
from blda.data.sample import Sample
from blda.data.segmentation_dataset import image_tensor
from blda.data.transforms import Geometry, RandomCrop, Resize, Size


class ClassificationDataset(Dataset):
    """Random training windows; each one is a function of (seed, draw number).

    reader: yields the frames. lookup: ids -> class indices, None for unlabelled data. transform: draws the windows.
    seed: must differ between source and target, or the same draw number cuts both at the same place.
    """

    def __init__(self, reader: Reader, lookup: LabelLookup | None, transform: RandomCrop, seed: int) -> None:
        self.reader, self.lookup, self.transform, self.seed = reader, lookup, transform, seed

    def __len__(self) -> int:
        return len(self.reader.frames)

    def __getitem__(self, draw: Draw) -> Sample:
        """Return the sample (B = 1) of a draw; its label is (1,) int64."""
        frame = self.reader.frames[draw.index]
        image = frame.read()
        return _sample(self, frame, self.window(image.shape[:2], draw.number).image(image), draw.number)

    def window(self, shape: Size, number: int) -> Geometry:
        """Draw the window number `number` of an image of (H, W) `shape`.

        Raises ValueError when no window of that size fits.
        """
        return self.transform.random_geometry(seeding.generator(self.seed, "crop", number), shape)


class ClassificationEvaluation(Dataset):
    """Evaluation images in the order of the frames.

    size: (H, W) or the rule to resize by, None for the image's own. crop: (H, W) cut from the middle, None for all.
    """

    def __init__(
        self,
        reader: Reader,
        lookup: LabelLookup | None,
        size: Resize | Size | None = None,
        crop: Size | None = None,
    ) -> None:
        self.reader, self.lookup, self.size, self.crop = reader, lookup, Resize.of(size), crop

    def __len__(self) -> int:
        return len(self.reader.frames)

    def __getitem__(self, i: int) -> Sample:
        """Return frame i as a sample (B = 1) of draw number i; its label is (1,) int64."""
        frame = self.reader.frames[i]
        image = frame.read()
        return _sample(self, frame, self.window(image.shape[:2], i).image(image), i)

    def window(self, shape: Size, number: int) -> Geometry:
        """Return the resize and centre crop for an image of (H, W) `shape`.

        Raises ValueError when the crop does not fit.
        """
        return center_crop(self.size(shape), self.crop)


Images = ClassificationDataset | ClassificationEvaluation


def look(dataset: Images, index: int) -> Seen:
    """Open one frame for a data-set check; see blda/data/checks/dataset_check.py."""
    frame = dataset.reader.frames[index]
    ids = {} if frame.label is None else {int(dataset.reader.read_label(frame.label)): 1}
    try:
        height, width = frame.read().shape[:2]
    except (ValueError, OSError) as error:
        return Seen(index, None, ids, (("file", str(error)),))
    try:
        dataset.window((height, width), 0)
    except ValueError as error:
        return Seen(index, (height, width), ids, (("file", f"image {frame.image}: {error}"),))
    return Seen(index, (height, width), ids, ())


def images_of_classes(reader: Reader, lookup: LabelLookup, num_classes: int) -> np.ndarray:
    """Count the classes of every frame: (frames, classes) int64, with a single 1 in each row.

    The row is zero when the frame's class is not a class of the run.
    """
    shown = np.array([_class_of(reader, lookup, frame) for frame in reader.frames])
    return (shown[:, None] == np.arange(num_classes)).astype(np.int64)


def _class_of(reader: Reader, lookup: LabelLookup, frame: Frame) -> int:
    return int(lookup(reader.read_label(frame.label), frame.label))


def _sample(dataset: Images, frame: Frame, pixels: np.ndarray, number: int) -> Sample:
    label: Tensor | None = None
    if frame.label is not None:
        label = torch.tensor([_class_of(dataset.reader, dataset.lookup, frame)])
    return Sample(image_tensor(pixels), label, (frame.name,), (number,))
