"""Data sets of labelled or unlabelled frames: random crops for training, whole images for evaluation."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from blda.data import seeding
from blda.data.draws import Draw
from blda.data.label_map import LabelLookup
from blda.data.readers.decoding import orientation
from blda.data.readers.frames import Frame, Reader
from blda.data.sample import Sample, unit_floats
from blda.data.transforms import Geometry, RandomCrop, Resize, Size, whole

Distort = Callable[[np.ndarray, torch.Generator], np.ndarray]
"""(image (H, W, 3) uint8 RGB, generator) -> the same with other colours."""


def byte_tensor(image: np.ndarray) -> Tensor:
    """Convert an image (H, W, 3) uint8 to (1, 3, H, W) uint8."""
    planes = np.empty((3, *image.shape[:2]), np.uint8)
    cv2.split(image, list(planes))
    return torch.from_numpy(planes[None])


def image_tensor(image: np.ndarray) -> Tensor:
    """Convert an image (H, W, 3) uint8 to (1, 3, H, W) float32 in [0, 1]."""
    return unit_floats(byte_tensor(image))


def label_tensor(label: np.ndarray) -> Tensor:
    """Convert a label (H, W) uint8 to (1, H, W) int64."""
    return torch.from_numpy(np.ascontiguousarray(label))[None].long()


def read_frame(reader: Reader, lookup: LabelLookup | None, frame: Frame) -> tuple[np.ndarray, np.ndarray | None]:
    """Read the image (H, W, 3) uint8 and the class indices (H, W) uint8, None without a label file.

    Raises ValueError naming the file that cannot be read, or both files when their sizes differ.
    """
    image, ids, classes = read_ids(reader, lookup, frame)
    return image, None if ids is None else np.take(classes, ids)


def read_ids(
    reader: Reader, lookup: LabelLookup | None, frame: Frame
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Read the image (H, W, 3) uint8, ids (H, W) uint8 and the class index (256,) uint8 of each id.

    Ids and class indices are those of `LabelLookup.compact`, None without a label file. Errors: see `read_frame`.
    """
    image = frame.read()
    if frame.label is None:
        return image, None, None
    if lookup is None:
        raise ValueError(
            f"frame {frame.name} has a label but the data set has no label look-up; pass lookup, or labelled=False"
        )
    ids, classes = lookup.compact(reader.read_label(frame.label), frame.label)
    turned = orientation(frame.image), orientation(frame.label)
    if turned[1] not in (1, turned[0]):
        raise ValueError(
            f"label {frame.label} has EXIF orientation {turned[1]} but its image {frame.image} {turned[0]}; "
            "save the label upright, without the tag"
        )
    if ids.shape != image.shape[:2]:
        raise ValueError(
            f"image {frame.image} is {image.shape[:2]} but its label {frame.label} is {ids.shape} (height, width); "
            "replace one or leave the frame out"
        )
    return image, ids, classes


class SegmentationDataset(Dataset):
    """Random training crops; each one is a function of (seed, draw number).

    reader: yields the frames. lookup: raw ids -> class indices, None for unlabelled data.
    seed: must differ between source and target, or the same draw number cuts both at the same place.
    in_bytes: give images and labels as uint8, which `Sample.to` converts to the types of a `Sample`.
    distort: changes the colours of the crop by a function of (seed, draw number); None for no change.
    """

    def __init__(
        self,
        reader: Reader,
        lookup: LabelLookup | None,
        transform: RandomCrop,
        seed: int,
        in_bytes: bool = False,
        distort: Distort | None = None,
    ) -> None:
        self.reader = reader
        self.lookup = lookup
        self.transform = transform
        self.seed = seed
        self.in_bytes = in_bytes
        self.distort = distort

    def __len__(self) -> int:
        return len(self.reader.frames)

    def __getitem__(self, draw: Draw) -> Sample:
        """Return the sample (B = 1) of a draw."""
        return self.cut(draw)[0]

    def cut(self, draw: Draw) -> tuple[Sample, Geometry, Size]:
        """Return the sample of a draw, the geometry of its crop, and the (H, W) of the whole frame."""
        frame = self.reader.frames[draw.index]
        image, ids, classes = read_ids(self.reader, self.lookup, frame)
        generator = seeding.generator(self.seed, "crop", draw.number)
        if ids is None:
            geometry, label = self.transform.random_geometry(generator, image.shape[:2]), None
        else:
            geometry, cut = self.transform.random_label_geometry(generator, ids, classes, draw.wanted)
            label = torch.from_numpy(cv2.LUT(cut, classes)[None])
        pixels = geometry.image(image)
        if self.distort is not None:
            pixels = self.distort(pixels, seeding.generator(self.seed, "distortion", draw.number))
        sample = Sample(
            image=byte_tensor(pixels),
            label=label,
            name=(frame.name,),
            draw=(draw.number,),
            trusted=self.transform.trusted(geometry),
        )
        return sample if self.in_bytes else sample.to("cpu"), geometry, image.shape[:2]


class EvaluationDataset(Dataset):
    """Whole frames in order.

    The image is resized to `size`, (H, W) or a rule; None keeps its size. The label keeps its own size.
    """

    def __init__(self, reader: Reader, lookup: LabelLookup | None, size: Resize | Size | None = None) -> None:
        self.reader = reader
        self.lookup = lookup
        self.size = Resize.of(size)

    def __len__(self) -> int:
        return len(self.reader.frames)

    def __getitem__(self, i: int) -> Sample:
        """Return frame i as a sample (B = 1) of draw number i."""
        return self.cut(i)[0]

    def cut(self, i: int) -> tuple[Sample, Geometry, Size]:
        """Return the sample, the geometry of its image, and the (H, W) of the whole frame."""
        frame = self.reader.frames[i]
        image, label = read_frame(self.reader, self.lookup, frame)
        geometry = whole(self.size(image.shape[:2]))
        sample = Sample(
            image=image_tensor(geometry.image(image)),
            label=None if label is None else label_tensor(label),
            name=(frame.name,),
            draw=(i,),
        )
        return sample, geometry, image.shape[:2]
