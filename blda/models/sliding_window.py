"""Windows of an image: their positions, and operations that cut them out and put them back."""

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
        """Crop a tensor (..., H, W) to the window; stride: image pixels a pixel of the tensor."""
        top, left, height, width = (side // stride for side in self)
        return tensor[..., top : top + height, left : left + width]

    def placed(self, crop: Tensor, like: Tensor, stride: int = 1) -> Tensor:
        """Pad a crop (..., h, w) of the window with zeros to the height and width of `like`."""
        top, left, height, width = (side // stride for side in self)
        below, right = like.shape[-2] - top - height, like.shape[-1] - left - width
        return F.pad(crop, (left, right, top, below))


def overlapping(size: tuple[int, int], window: tuple[int, int]) -> list[Window]:
    """Return windows that cover an image and overlap by half; the last of a row or column ends at the image's border.

    size, window: (height, width) of the image and of a window, which must not be larger.
    """
    rows, columns = (starts(side, extent, max(extent // 2, 1)) for side, extent in zip(size, window, strict=True))
    return [Window(top, left, *window) for top in rows for left in columns]


def starts(side: int, window: int, stride: int) -> list[int]:
    """Return the first pixel of each window along a side: every `stride`, and `side` - `window` for the last one."""
    return [*range(0, side - window, stride), side - window]
