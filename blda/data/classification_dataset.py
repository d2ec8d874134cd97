"""Frames as samples whose label is one class for the whole image."""

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
    """Training windows; what is random is a function of (seed, draw number).

    reader: where the frames come from. lookup: ids -> class indices, None for unlabelled data. transform: draws
    windows. seed: give source and target different ones, or the same draw number cuts both at the same place.
    """

    def __init__(self, reader: Reader, lookup: LabelLookup | None, transform: RandomCrop, seed: int) -> None:
        self.reader, self.lookup, self.transform, self.seed = reader, lookup, transform, seed

    def __len__(self) -> int:
        return len(self.reader.frames)

    def __getitem__(self, draw: Draw) -> Sample:
        """One sample (B = 1) for a draw, its label (1,) int64."""
        frame = self.reader.frames[draw.index]
        image = frame.read()
        return _sample(self, frame, self.window(image.shape[:2], draw.number).image(image), draw.number)

    def window(self, shape: Size, number: int) -> Geometry:
        """What draw `number` cuts from an image of (H, W) `shape`; ValueError where nothing of that size fits."""
        return self.transform.random_geometry(seeding.generator(self.seed, "crop", number), shape)


class ClassificationEvaluation(Dataset):
    """Frames in order: resized to `size` ((H, W) or a rule) or as they are, then cut to their middle `crop` or not."""

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
        """Frame i as a sample (B = 1) of draw number i, its label (1,) int64."""
        frame = self.reader.frames[i]
        image = frame.read()
        return _sample(self, frame, self.window(image.shape[:2], i).image(image), i)

    def window(self, shape: Size, number: int) -> Geometry:
        """What is seen of any image of (H, W) `shape`; ValueError where the middle does not fit."""
        return center_crop(self.size(shape), self.crop)


Images = ClassificationDataset | ClassificationEvaluation


def look(dataset: Images, index: int) -> Seen:
    """Open one frame, as blda/data/checks/dataset_check.py asks for."""
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
    """What every frame shows: (frames, classes) int64, one 1 a row, none where its class is none of the run's."""
    shown = np.array([_class_of(reader, lookup, frame) for frame in reader.frames])
    return (shown[:, None] == np.arange(num_classes)).astype(np.int64)


def _class_of(reader: Reader, lookup: LabelLookup, frame: Frame) -> int:
    return int(lookup(reader.read_label(frame.label), frame.label))


def _sample(dataset: Images, frame: Frame, pixels: np.ndarray, number: int) -> Sample:
    label: Tensor | None = None
    if frame.label is not None:
        label = torch.tensor([_class_of(dataset.reader, dataset.lookup, frame)])
    return Sample(image_tensor(pixels), label, (frame.name,), (number,))
