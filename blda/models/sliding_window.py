"""Windows of an image: where they lie, cut out and put back."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F


class Window(NamedTuple):
    """A rectangle of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, tensor: Tensor, stride: int = 1) -> Tensor:
        """What a tensor (..., H, W) shows in it; stride: image pixels to a pixel of the tensor."""
        top, left, height, width = (side // stride for side in self)
        return tensor[..., top : top + height, left : left + width]

    def placed(self, part: Tensor, like: Tensor, stride: int = 1) -> Tensor:
        """A part (..., h, w) where it lies in a tensor of the height and width of `like`, zero around it."""
        top, left, height, width = (side // stride for side in self)
        below, right = like.shape[-2] - top - height, like.shape[-1] - left - width
        return F.pad(part, (left, right, top, below))


def overlapping(size: tuple[int, int], window: tuple[int, int]) -> list[Window]:
    """Windows that cover an image, each half a window from the next; the last of a row or column ends with the image.

    size, window: (height, width); the window is not the larger one.
    """
    rows, columns = (starts(side, part, max(part // 2, 1)) for side, part in zip(size, window, strict=True))
    return [Window(top, left, *window) for top in rows for left in columns]


def starts(side: int, window: int, stride: int) -> list[int]:
    """Where windows of a side begin: every `stride`, the last one at `side` - `window`."""
    return [*range(0, side - window, stride), side - window]
