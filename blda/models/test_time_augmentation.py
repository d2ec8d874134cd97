"""Views of an image that a network is shown one after the other, and whose logits are averaged.

Each wraps a model, image (B, 3, H, W) -> logits, and is one itself: `Flipped(Sliding(network, ...))`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from blda.models.sliding_window import starts

Size = tuple[int, int]


class Flipped(nn.Module):
    """The mean of the logits of an image and of its mirror image, mirrored back.

    mmsegmentation averages the probabilities of the two; here it is the logits, because they are what calibration and
    the metrics take. Classifiers of whole images, logits (B, C), have nothing to mirror back.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.training = model, model.training

    def forward(self, image: Tensor) -> Tensor:
        seen, mirrored = self.model(image), self.model(image.flip(-1))
        return (seen + (mirrored.flip(-1) if mirrored.ndim == 4 else mirrored)) / 2


class Sliding(nn.Module):
    """A large image in overlapping windows, the mean of the logits where they overlap (mmsegmentation's slide mode).

    window, stride: (height, width); windows start every stride, those that would leave the image are moved inwards.
    An image that fits into the window is shown whole, and a side that does is not cut. batch: windows the network is
    given at a time. Memory: one map of logits, and those of `batch` windows.

    Raises ValueError for windows that leave gaps, and for a network without a map of logits.
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
        height, width = (min(side, most) for side, most in zip(size, self.window, strict=True))
        if (height, width) == tuple(size):
            return self.model(image)
        tops, lefts = (
            starts(side, part, step) for side, part, step in zip(size, (height, width), self.stride, strict=True)
        )
        total = None
        for places in self._batches(len(image), tops, lefts):
            logits = self._logits(torch.stack([image[b, :, y : y + height, x : x + width] for b, y, x in places]))
            total = logits.new_zeros(len(image), logits.shape[1], *size) if total is None else total
            for (b, y, x), part in zip(places, logits, strict=True):
                total[b, :, y : y + height, x : x + width] += part
        rows, columns = covered(size[0], height, tops), covered(size[1], width, lefts)
        return total.div_(torch.outer(rows, columns).to(total, non_blocking=True))

    def _batches(self, images: int, tops: list[int], lefts: list[int]) -> Iterator[list[tuple[int, int, int]]]:
        places = [(b, y, x) for b in range(images) for y in tops for x in lefts]
        for first in range(0, len(places), self.batch):
            yield places[first : first + self.batch]

    def _logits(self, windows: Tensor) -> Tensor:
        logits = self.model(windows).float()
        if logits.shape[2:] != windows.shape[2:]:
            raise ValueError(
                f"windows of {tuple(windows.shape[2:])} give logits of shape {tuple(logits.shape)}; sliding inference "
                "needs a network that labels every pixel (for a classifier, leave evaluation.window out)"
            )
        return logits


def covered(side: int, window: int, begins: list[int]) -> Tensor:
    """How many windows see each pixel of a side: (side,)."""
    count = torch.zeros(side)
    for begin in begins:
        count[begin : begin + window] += 1
    return count
