"""Test-time augmentation: a network predicts several views of an image, and their logits are averaged.

Each class wraps a model, images (B, 3, H, W) -> logits, and is such a model itself, so that they can be nested:
`Flipped(Sliding(network, ...))`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from blda.models.sliding_window import starts

Size = tuple[int, int]


class Flipped(nn.Module):
    """Flip augmentation: the mean of the logits of an image and of its mirror image, mirrored back.

    mmsegmentation averages probabilities instead; this class averages logits, because calibration and metrics take
    logits. Logits (B, C) of an image classifier are averaged without mirroring back.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.training = model, model.training

    def forward(self, image: Tensor) -> Tensor:
        plain, mirrored = self.model(image), self.model(image.flip(-1))
        return (plain + (mirrored.flip(-1) if mirrored.ndim == 4 else mirrored)) / 2


class Sliding(nn.Module):
    """Sliding-window inference: logits are averaged where windows overlap (mmsegmentation's slide mode).

    An image that fits into the window is predicted whole, and a side that fits is not cut. Memory is that of one logit
    map of the image and of the logits of `batch` windows.

    model: the network, images (B, 3, H, W) -> logits (B, C, H, W).
    window: (height, width) of a window in pixels.
    stride: (height, width) from one window to the next; windows that would leave the image are moved inwards.
    batch: number of windows that the network predicts at a time.

    Raises ValueError for windows that leave gaps, and for a network that does not return a logit map.
    """

    def __init__(self, model: nn.Module, window: Size, stride: Size, batch: int = 1) -> None:
        super().__init__()
        if min(*window, *stride) < 1 or batch < 1:
            raise ValueError(
                f"window {tuple(window)}, stride {tuple(stride)} and batch {batch} of sliding inference must be at "
                "least 1"
            )
        if stride[0] > window[0] or stride[1] > window[1]:
            raise ValueError(
                f"stride {tuple(stride)} leaves gaps between windows of {tuple(window)} (height, width); use a stride "
                "of at most the window"
            )
        self.model, self.training = model, model.training
        self.window, self.stride, self.batch = tuple(window), tuple(stride), batch

    def forward(self, image: Tensor) -> Tensor:
        size = image.shape[-2:]
        height, width = (min(side, limit) for side, limit in zip(size, self.window, strict=True))
        if (height, width) == tuple(size):
            return self.model(image)
        tops, lefts = (
            starts(side, extent, step) for side, extent, step in zip(size, (height, width), self.stride, strict=True)
        )
        total = None
        for places in self._batches(len(image), tops, lefts):
            logits = self._logits(torch.stack([image[b, :, y : y + height, x : x + width] for b, y, x in places]))
            total = logits.new_zeros(len(image), logits.shape[1], *size) if total is None else total
            for (b, y, x), of_window in zip(places, logits, strict=True):
                total[b, :, y : y + height, x : x + width] += of_window
        rows, columns = covered(size[0], height, tops), covered(size[1], width, lefts)
        return total.div_(torch.outer(rows, columns).to(total, non_blocking=True))

    def _batches(self, images: int, tops: list[int], lefts: list[int]) -> Iterator[list[tuple[int, int, int]]]:
        """Yield batches of windows as (image, top, left)."""
        places = [(b, y, x) for b in range(images) for y in tops for x in lefts]
        for first in range(0, len(places), self.batch):
            yield places[first : first + self.batch]

    def _logits(self, windows: Tensor) -> Tensor:
        """Return the logits of windows; ValueError if they have another height or width."""
        logits = self.model(windows).float()
        if logits.shape[2:] != windows.shape[2:]:
            raise ValueError(
                f"windows of {tuple(windows.shape[2:])} give logits of shape {tuple(logits.shape)}; sliding inference "
                "needs a network that labels every pixel (for a classifier, leave evaluation.window out)"
            )
        return logits


def covered(side: int, window: int, begins: list[int]) -> Tensor:
    """Count the windows that cover each pixel of a side: (side,); begins: first pixel of each window."""
    count = torch.zeros(side)
    for begin in begins:
        count[begin : begin + window] += 1
    return count
