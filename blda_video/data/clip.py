"""Key frames with their context frames and flow, all cut by the key frame's drawn geometry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from blda.data.dataset import EvaluationDataset, SegmentationDataset, byte_tensor
from blda.data.draws import Draw
from blda.data.frames import Frame, Reader
from blda.data.label_space import LabelTable
from blda.data.sample import Sample, unit_floats
from blda.data.transforms import Geometry, RandomCrop, Size
from blda_video.data.sample import Clip
from blda_video.flow.geometry import consistent, crop, flip, inside, resize
from blda_video.flow.store import StoredFlow

Estimator = Callable[[Tensor, Tensor], Tensor]
Cut = tuple[Sample, Geometry, Size]


class VideoReader(Reader, Protocol):
    """A `Reader` that knows the frames around a frame."""

    def neighbour(self, frame: Frame, offset: int) -> Frame | None:
        """The unlabelled frame `offset` frames later, None past the ends of the video."""
        ...


class Surroundings:
    """The frames around a key frame and the motion to them.

    offsets: signed frame distances, different and not 0; empty makes clips of the key frame alone.
    flow: an estimator `(image, neighbour) -> flow`, run on the cut images in both directions, or a `StoredFlow` of
        flows between whole frames. May be None when there are no offsets.
    """

    def __init__(self, reader: VideoReader, offsets: tuple[int, ...], flow: Estimator | StoredFlow | None) -> None:
        self.reader = reader
        self.offsets = tuple(offsets)
        self.flow = flow
        if 0 in self.offsets or len(set(self.offsets)) != len(self.offsets):
            raise ValueError(f"offsets {self.offsets} must differ from each other and from 0, the key frame")
        if self.offsets and flow is None:
            raise ValueError(f"offsets {self.offsets} need flow; give an estimator or a flow store")
        if self.offsets and not hasattr(reader, "neighbour"):
            raise ValueError(f"{type(reader).__name__} knows no neighbouring frames; use a reader of sequences")
        if isinstance(flow, StoredFlow):
            flow.require(self.offsets)
        for offset in self.offsets:
            if not any(reader.neighbour(frame, offset) for frame in reader.frames):
                raise ValueError(
                    f"no frame has a neighbour at offset {offset} (first key frame: {reader.frames[0].image}); "
                    "extract the frames in between or change the offsets"
                )

    def clip(self, frame: Frame, cut: Cut) -> Clip:
        """The cut key frame as a clip (B = 1). A missing neighbour is a copy of the key, flow 0, nowhere valid."""
        sample, geometry, shape = cut
        height, width = sample.image.shape[-2:]
        seen = [self._seen(frame, offset, sample.image, geometry, shape) for offset in self.offsets]
        context, flow, valid = zip(*seen, strict=True) if seen else ((), (), ())
        return Clip(
            image=sample.image,
            label=sample.label,
            name=sample.name,
            draw=sample.draw,
            context=torch.stack(context, 1) if seen else sample.image.new_zeros(1, 0, 3, height, width),
            flow=torch.stack(flow, 1) if seen else torch.zeros(1, 0, 2, height, width),
            valid=torch.stack(valid, 1) if seen else torch.zeros(1, 0, height, width, dtype=torch.bool),
            offset=self.offsets,
        )

    def _seen(
        self, frame: Frame, offset: int, image: Tensor, geometry: Geometry, shape: Size
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Context image (1, 3, h, w), flow (1, 2, h, w) and validity (1, h, w) of one neighbour."""
        neighbour = self.reader.neighbour(frame, offset)
        if neighbour is None:
            nowhere = torch.zeros(image.shape[0], *image.shape[-2:], dtype=torch.bool)
            return image.clone(), torch.zeros(image.shape[0], 2, *image.shape[-2:]), nowhere
        pixels = neighbour.read()
        if pixels.shape[:2] != shape:
            raise ValueError(
                f"frame {neighbour.image} is {pixels.shape[:2]} but its key frame {frame.image} is {shape} "
                "(height, width); all frames of a video must have one size"
            )
        context = byte_tensor(geometry.image(pixels))
        context = context if image.dtype == torch.uint8 else unit_floats(context)
        if isinstance(self.flow, StoredFlow):
            forward = self._stored(frame, neighbour, geometry, shape)
            backward = self._stored(neighbour, frame, geometry, shape) if self.flow.both_ways else None
        else:
            key, other = unit_floats(image), unit_floats(context)
            forward, backward = self.flow(key, other), self.flow(other, key)
        # Flow that others published leads one way; it cannot be checked, and NaN is not inside.
        valid = inside(forward) if backward is None else consistent(forward, backward)
        # Unknown vectors are NaN and not valid; as numbers they would poison whoever multiplies by validity.
        return context, torch.nan_to_num(forward, nan=0.0), valid

    def _stored(self, key: Frame, neighbour: Frame, geometry: Geometry, shape: Size) -> Tensor:
        rows, columns = geometry.spans(shape)
        flow = self.flow.read(key.name, neighbour.name, rows.source, columns.source, shape)
        flow = resize(flow, (rows.size, columns.size))
        flow = crop(flow, rows.part.start, columns.part.start, geometry.height, geometry.width)
        return flip(flow) if geometry.flip else flow


class ClipDataset(SegmentationDataset):
    """Training clips: a `SegmentationDataset` with the frames around each key frame; K = 0 gives its very pixels.

    reader, table, transform, seed, in_bytes: as in `SegmentationDataset`. offsets, flow: as in `Surroundings`.
    """

    def __init__(
        self,
        reader: VideoReader,
        table: LabelTable | None,
        transform: RandomCrop,
        seed: int,
        offsets: tuple[int, ...],
        flow: Estimator | StoredFlow | None,
        in_bytes: bool = False,
    ) -> None:
        super().__init__(reader, table, transform, seed, in_bytes)
        self.surroundings = Surroundings(reader, offsets, flow)

    def __getitem__(self, draw: Draw) -> Clip:
        """One clip (B = 1) for a draw."""
        return self.surroundings.clip(self.reader.frames[draw.index], self.cut(draw))


class EvaluationClips(EvaluationDataset):
    """Whole clips in order: images and flow at `size` (H, W) or as they are, the label at its own size."""

    def __init__(
        self,
        reader: VideoReader,
        table: LabelTable | None,
        size: Size | None,
        offsets: tuple[int, ...],
        flow: Estimator | StoredFlow | None,
    ) -> None:
        super().__init__(reader, table, size)
        self.surroundings = Surroundings(reader, offsets, flow)

    def __getitem__(self, i: int) -> Clip:
        """The clip (B = 1) around frame i."""
        return self.surroundings.clip(self.reader.frames[i], self.cut(i))
