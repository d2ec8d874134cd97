"""Cut frames of a clip and the flow between them, estimated on the cut images or read from a store."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from itertools import pairwise

import torch
from torch import Tensor

from blda.data.readers.frames import Frame
from blda.data.sample import Sample, unit_floats
from blda.data.segmentation_dataset import byte_tensor
from blda.data.transforms import Geometry, Size
from blda_video.flow.flow_geometry import chain, consistent, crop, flip, inside, resize
from blda_video.flow.flow_store import StoredFlow

Estimator = Callable[[Tensor, Tensor], Tensor]
"""(image, neighbour), each (B, 3, H, W) in [0, 1] -> flow (B, 2, H, W)."""
Cut = tuple[Sample, Geometry, Size]
"""A sample (B = 1), the geometry it was cut with and the (height, width) of the whole frame before it."""


class ClipCrop:
    """One cut applied to a key frame and the frames around it; images and flow are made once, when first asked for.

    key, cut: the key frame. flow: see `blda_video.clips.clip_dataset.ClipContext`; None where only images are asked
    for.
    """

    def __init__(self, key: Frame, cut: Cut, flow: Estimator | StoredFlow | None) -> None:
        sample, self.geometry, self.shape = cut
        self.key, self.flow = key, flow
        self._images = {key.name: sample.image}
        self._links: dict[tuple[str, str], Tensor] = {}

    def image(self, frame: Frame) -> Tensor:
        """Cut a frame's image (1, 3, h, w), uint8 if the key's is; ValueError when the whole frame has another size."""
        if frame.name not in self._images:
            pixels = frame.read()
            if pixels.shape[:2] != self.shape:
                raise ValueError(
                    f"frame {frame.image} is {pixels.shape[:2]} but its key frame {self.key.image} is {self.shape} "
                    "(height, width); all frames of a video must have one size"
                )
            image = byte_tensor(self.geometry.image(pixels))
            in_bytes = self._images[self.key.name].dtype == torch.uint8
            self._images[frame.name] = image if in_bytes else unit_floats(image)
        return self._images[frame.name]

    def motion(self, path: tuple[Frame, ...]) -> tuple[Tensor, Tensor]:
        """Flow (1, 2, h, w) and validity (1, h, w) from the first to the last frame of a `route`, link by link.

        A point that leaves the cut on its way has an unknown vector. Unknown vectors are 0 and not valid.
        """
        forward = self._along(path)
        one_way = isinstance(self.flow, StoredFlow) and not self.flow.both_ways
        # Flow that others published leads one way; it cannot be checked, and NaN is not inside.
        valid = inside(forward) if one_way else consistent(forward, self._along(path[::-1]))
        # As numbers, unknown vectors would poison whoever multiplies by validity.
        return torch.nan_to_num(forward, nan=0.0), valid

    def _along(self, path: tuple[Frame, ...]) -> Tensor:
        return reduce(chain, (self._link(start, end) for start, end in pairwise(path)))

    def _link(self, start: Frame, end: Frame) -> Tensor:
        names = start.name, end.name
        if names not in self._links:
            self._links[names] = self._stored(*names) if isinstance(self.flow, StoredFlow) else self._live(start, end)
        return self._links[names]

    def _live(self, start: Frame, end: Frame) -> Tensor:
        image, neighbour = unit_floats(self.image(start)), unit_floats(self.image(end))
        flow = self.flow(image, neighbour)
        if flow.shape != (1, 2, *image.shape[-2:]):
            result, wanted = tuple(flow.shape), (1, 2, *image.shape[-2:])
            raise ValueError(f"flow {start.name} -> {end.name} has shape {result}, not {wanted}; mend its estimator")
        return flow

    def _stored(self, start: str, end: str) -> Tensor:
        rows, columns = self.geometry.spans(self.shape)
        flow = self.flow.read(start, end, rows.source, columns.source, self.shape)
        flow = resize(flow, (rows.size, columns.size))
        flow = crop(flow, rows.part.start, columns.part.start, self.geometry.height, self.geometry.width)
        return flip(flow) if self.geometry.flip else flow
