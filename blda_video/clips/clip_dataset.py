"""Key frames with their context frames and flow, all cut by the key frame's drawn geometry."""

from __future__ import annotations

import torch

from blda.data.draws import Draw
from blda.data.label_map import LabelLookup
from blda.data.readers.frames import Frame, Reader
from blda.data.segmentation_dataset import EvaluationDataset, SegmentationDataset
from blda.data.transforms import RandomCrop, Resize, Size
from blda_video.clips.clip import Clip
from blda_video.clips.clip_crop import ClipCrop, Cut, Estimator
from blda_video.clips.route import VideoReader, link_offsets, route
from blda_video.flow.flow_store import StoredFlow


class ClipContext:
    """The frames around a key frame and the motion to them.

    offsets: signed frame distances, different and not 0; empty makes clips of the key frame alone.
    flow: an estimator `(image, neighbour) -> flow`, run on the cut images in both directions, or a `StoredFlow` of
        flows between whole frames. May be None when there are no offsets.
    chain: flow over more frames than this is composed of links of that many; None takes it directly.
    """

    def __init__(
        self,
        reader: VideoReader,
        offsets: tuple[int, ...],
        flow: Estimator | StoredFlow | None,
        chain: int | None = None,
    ) -> None:
        self.reader = reader
        self.offsets = tuple(offsets)
        self.flow = flow
        self.chain = chain
        if 0 in self.offsets or len(set(self.offsets)) != len(self.offsets):
            raise ValueError(f"offsets {self.offsets} must differ from each other and from 0, the key frame")
        if self.offsets and flow is None:
            raise ValueError(f"offsets {self.offsets} need flow; give an estimator or a flow store")
        if self.offsets and not hasattr(reader, "neighbour"):
            raise ValueError(f"{type(reader).__name__} knows no neighbouring frames; use a reader of sequences")
        if isinstance(flow, StoredFlow):
            flow.require(link_offsets(self.offsets, chain))
        for offset in self.offsets:
            if not any(self.route(frame, offset) for frame in reader.frames):
                raise ValueError(
                    f"no frame has a neighbour at offset {offset} (first key frame: {reader.frames[0].image}); "
                    "extract the frames in between or change the offsets"
                )

    def route(self, frame: Frame, offset: int) -> tuple[Frame, ...]:
        """Frames on the `blda_video.clips.route` to the neighbour at `offset`; empty without that neighbour."""
        return route(self.reader, frame, offset, self.chain)

    def clip(self, frame: Frame, cut: Cut) -> Clip:
        """Return the cut key frame as a clip (B = 1). A missing neighbour is the key's copy, flow 0, nowhere valid."""
        sample = cut[0]
        height, width = sample.image.shape[-2:]
        clip_crop = ClipCrop(frame, cut, self.flow)
        context = sample.image.new_empty(1, len(self.offsets), 3, height, width)
        flow = torch.zeros(1, len(self.offsets), 2, height, width)
        valid = torch.zeros(1, len(self.offsets), height, width, dtype=torch.bool)
        for k, offset in enumerate(self.offsets):
            path = self.route(frame, offset)
            context[:, k] = clip_crop.image(path[-1]) if path else sample.image
            if path:
                flow[:, k], valid[:, k] = clip_crop.motion(path)
        return Clip(
            image=sample.image,
            label=sample.label,
            name=sample.name,
            draw=sample.draw,
            trusted=sample.trusted,
            context=context,
            flow=flow,
            valid=valid,
            offset=self.offsets,
        )


class NoContext(ClipContext):
    """Context of images that belong to no video: at every offset the neighbour is missing."""

    def __init__(self, reader: Reader, offsets: tuple[int, ...]) -> None:
        self.reader, self.offsets, self.flow, self.chain = reader, tuple(offsets), None, None

    def route(self, frame: Frame, offset: int) -> tuple[Frame, ...]:
        """No frames."""
        return ()


class StillClips(SegmentationDataset):
    """Training images as clips without neighbours, to be batched with the clips of a `ClipDataset` at `offsets`.

    Other arguments: as in `SegmentationDataset`.
    """

    def __init__(
        self,
        reader: Reader,
        lookup: LabelLookup | None,
        transform: RandomCrop,
        seed: int,
        offsets: tuple[int, ...],
        in_bytes: bool = False,
    ) -> None:
        super().__init__(reader, lookup, transform, seed, in_bytes)
        self._no_context = NoContext(reader, offsets)

    def __getitem__(self, draw: Draw) -> Clip:
        """One clip (B = 1) for a draw."""
        return self._no_context.clip(self.reader.frames[draw.index], self.cut(draw))


class ClipDataset(SegmentationDataset):
    """Training clips: a `SegmentationDataset` with the frames around each key frame; K = 0 gives exactly its pixels.

    reader, lookup, transform, seed, in_bytes: as in `SegmentationDataset`. offsets, flow, chain: as in `ClipContext`.
    """

    def __init__(
        self,
        reader: VideoReader,
        lookup: LabelLookup | None,
        transform: RandomCrop,
        seed: int,
        offsets: tuple[int, ...],
        flow: Estimator | StoredFlow | None,
        in_bytes: bool = False,
        chain: int | None = None,
    ) -> None:
        super().__init__(reader, lookup, transform, seed, in_bytes)
        self.clip_context = ClipContext(reader, offsets, flow, chain)

    def __getitem__(self, draw: Draw) -> Clip:
        """One clip (B = 1) for a draw."""
        return self.clip_context.clip(self.reader.frames[draw.index], self.cut(draw))


class EvaluationClips(EvaluationDataset):
    """Whole clips in order. Images and flow have `size`, (H, W) or a rule, or their own size; labels keep theirs."""

    def __init__(
        self,
        reader: VideoReader,
        lookup: LabelLookup | None,
        size: Resize | Size | None,
        offsets: tuple[int, ...],
        flow: Estimator | StoredFlow | None,
        chain: int | None = None,
    ) -> None:
        super().__init__(reader, lookup, size)
        self.clip_context = ClipContext(reader, offsets, flow, chain)

    def __getitem__(self, i: int) -> Clip:
        """The clip (B = 1) around frame i."""
        return self.clip_context.clip(self.reader.frames[i], self.cut(i))
