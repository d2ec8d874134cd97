"""The batch of images that every part of the library passes around."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

IGNORE = 255
"""Label of a pixel without a class; it takes part in no loss, statistic or metric."""

S = TypeVar("S", bound="Sample")


@dataclass(frozen=True)
class Sample:
    """Batch of B images with their labels. A data set returns B = 1; `collate` joins samples.

    image: (B, 3, H, W) float32 in [0, 1]. A data set may give images and labels as bytes (uint8), which take a
        quarter and an eighth of the memory; `to` converts them to the types given here.
    label: (B, H, W) int64, IGNORE where unknown; None for unlabelled data. In evaluation its H and W
        are those of the label file and may differ from the image's. (B,) where an image has one class.
    name: B frame names, for messages and pictures.
    draw: B draw numbers. They seed everything random that is done to a sample, so
        results do not depend on how a batch is split over processes.
    trusted: (B, H, W) bool, pixels that pseudo-labels may be learnt from; None for all of them.
    """

    image: Tensor
    label: Tensor | None
    name: tuple[str, ...]
    draw: tuple[int, ...]
    trusted: Tensor | None = field(default=None, kw_only=True)

    def to(self: S, device: torch.device | str) -> S:
        """Copy the batch to `device` and convert its bytes there to floats and integers."""
        tensors = {
            f.name: _opened(f.name, getattr(self, f.name).to(device, non_blocking=True))
            for f in fields(self)
            if isinstance(getattr(self, f.name), Tensor)
        }
        return replace(self, **tensors)

    def pin_memory(self: S) -> S:
        """Copy the batch to page-locked memory (called by DataLoader)."""
        tensors = {
            f.name: getattr(self, f.name).pin_memory()
            for f in fields(self)
            if isinstance(getattr(self, f.name), Tensor)
        }
        return replace(self, **tensors)


def _opened(name: str, tensor: Tensor) -> Tensor:
    """Convert a field of a sample from bytes, if it is in bytes: images to floats, labels to int64."""
    if tensor.dtype != torch.uint8:
        return tensor
    return tensor.long() if name == "label" else unit_floats(tensor)


def unit_floats(image: Tensor) -> Tensor:
    """Convert uint8 to float32 in [0, 1], with the same bits on every device; other types stay as they are."""
    if image.dtype != torch.uint8:
        return image
    # By a tensor: to divide by a number, CUDA multiplies with its reciprocal, which rounds differently.
    return image.float().div_(torch.full((), 255.0, device=image.device))


def collate(samples: Sequence[S]) -> S:
    """Join samples of one type along the batch axis.

    Raises ValueError naming the field and the frames when shapes differ.
    """
    first = samples[0]
    joined = {}
    for each in fields(first):
        values = [getattr(sample, each.name) for sample in samples]
        if isinstance(values[0], Tensor):
            try:
                joined[each.name] = torch.cat(values)
            except RuntimeError as error:
                shapes = ", ".join(f"{s.name[0]}: {tuple(v.shape)}" for s, v in zip(samples, values, strict=True))
                raise ValueError(f"cannot batch '{each.name}' of different shapes ({shapes}); set a crop") from error
    names = tuple(name for sample in samples for name in sample.name)
    draws = tuple(draw for sample in samples for draw in sample.draw)
    return replace(first, name=names, draw=draws, **joined)
