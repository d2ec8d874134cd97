"""HRDA: context at low and detail at full resolution, fused by a learned attention (Hoyer et al., ECCV 2022).

What the paper leaves open (the map of the fusion, alignment, layers of the attention, norms of each pass) is as in the
published code: lhoyer/HRDA, `hrda_encoder_decoder.py`, `hrda_head.py`, `configs/hrda/gtaHR2csHR_hrda.py`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blda.models.output import Detail, Output
from blda.models.segmenter import IMAGENET_MEAN, IMAGENET_STD, Segmenter
from blda.models.sliding_window import Window, overlapping


def cell_of(scale: float, stride: int) -> int:
    """Image pixels to a pixel of the context's logits: what windows are aligned to.

    ValueError for a wrong scale or stride.
    """
    if not 0 < scale <= 1 or abs(1 / scale - round(1 / scale)) > 1e-6:
        raise ValueError(f"model.hrda.scale is {scale}; it must be 1 / 2, 1 / 3 or so, such as 0.5")
    if stride < 1:
        raise ValueError(f"model.hrda.stride is {stride}; it must be at least 1, such as 4 for pyramid heads")
    return stride * round(1 / scale)


class HRDA(Segmenter):
    """The whole image at `scale` for context and windows of it as they are for detail, by one encoder and one head.

    encoder, head, mean, std: see `Segmenter`. attention: a head too; the sigmoid of what it makes of the context's
        features is the share of the detail in the logits of each class.
    detail: (height, width) of a window, multiples of `cell_of(scale, stride)`; a smaller image is one window.
    scale: of the context, 1 / 2 or another whole-numbered part. windows: most that are encoded at once.
    stride: image pixels to a pixel of the map on which context and detail are fused; published is the head's own, 4 of
        DAFormer's and 8 of DeepLab-v2 on a ResNet.

    In training image (B, 3, H, W) -> Output of the fused logits and of the detail in one window, which is drawn from
    Python's generator: one for the batch and, as processes seed it alike, for all of them. Outside the window the fused
    logits are the context's. In evaluation -> fused logits (B, classes, H, W), the detail averaged over windows that
    overlap by half. H and W may be any; the last row and column are repeated until they are multiples of the cell. The
    context is encoded before the detail.

    A batch norm sees the context and the windows apart; that of a teacher, all windows that are encoded at once.
    """

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        attention: nn.Module,
        detail: tuple[int, int],
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        scale: float = 0.5,
        windows: int = 32,
        stride: int = 4,
    ) -> None:
        super().__init__(encoder, head, mean, std)
        self.stride, self.cell = stride, cell_of(scale, stride)
        if any(side < self.cell or side % self.cell for side in detail):
            raise ValueError(f"model.hrda.detail is {list(detail)}; its sides must be multiples of {self.cell}")
        if windows < 1:
            raise ValueError(f"model.hrda.windows is {windows}; it must be at least 1")
        self.attention, self.detail, self.windows = attention, tuple(detail), windows

    def forward(self, image: Tensor) -> Tensor | Output:
        whole = self._in_whole_cells(image)
        window = self.draw_window(whole) if self.training else None
        context, attention = self._context(whole)
        if window is None:
            return self._of_image(self._fused(context, attention, self._everywhere(whole)), whole, image)
        detail = self._logits(window.of(whole))
        # Where there is no detail, none is attended to.
        attention = window.placed(window.of(attention, self.cell), attention, self.cell)
        placed = window.placed(detail, whole[..., :: self.stride, :: self.stride], self.stride)
        fused = self._of_image(self._fused(context, attention, placed), whole, image)
        return Output(fused, detail=self._inside(window, self.upsampled(detail, window.of(whole)), image))

    def _in_whole_cells(self, image: Tensor) -> Tensor:
        below, right = (-side % self.cell for side in image.shape[-2:])
        return F.pad(image, (0, right, 0, below), mode="replicate") if below or right else image

    def _of_image(self, fused: Tensor, whole: Tensor, image: Tensor) -> Tensor:
        return self.upsampled(fused, whole)[..., : image.shape[-2], : image.shape[-1]]

    def _inside(self, window: Window, logits: Tensor, image: Tensor) -> Detail:
        """The window's logits without what was repeated beyond the image."""
        height, width = (side - start for side, start in zip(image.shape[-2:], window[:2], strict=True))
        window = window._replace(height=min(window.height, height), width=min(window.width, width))
        return Detail(logits[..., : window.height, : window.width], window)

    def _context(self, whole: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and attention, both (B, classes, H / cell, W / cell)."""
        features = self.features(_resized(whole, whole, self.cell // self.stride))
        logits, share = self.head(features), self.attention(features)
        return _resized(logits, whole, self.cell), _resized(share, whole, self.cell).sigmoid()

    def _logits(self, part: Tensor) -> Tensor:
        """What the detail says of a part of the image, (B, classes, H / stride, W / stride)."""
        return _resized(self.head(self.features(part)), part, self.stride)

    @staticmethod
    def _fused(context: Tensor, attention: Tensor, detail: Tensor) -> Tensor:
        """Logits on the map of the detail."""
        kept, share = (
            F.interpolate(low, detail.shape[-2:], mode="bilinear", align_corners=False)
            for low in ((1 - attention) * context, attention)
        )
        return torch.addcmul(kept, share, detail)

    @torch.compiler.disable
    def draw_window(self, whole: Tensor) -> Window:
        """Draw where the detail of a training batch lies, aligned to the cell."""
        size = self._window(whole)
        free = [(side - taken) // self.cell for side, taken in zip(whole.shape[-2:], size, strict=True)]
        # Not by torch's generator, which differs between processes; theirs are one batch.
        top, left = (self.cell * random.randrange(steps + 1) for steps in free)
        return Window(top, left, *size)

    def _window(self, whole: Tensor) -> tuple[int, int]:
        height, width = map(min, self.detail, whole.shape[-2:])
        return height, width

    def _everywhere(self, whole: Tensor) -> Tensor:
        """The detail's logits (B, classes, H / stride, W / stride), averaged where windows overlap."""
        windows = overlapping(tuple(whole.shape[-2:]), self._window(whole))
        each = max(1, self.windows // len(whole))
        parts = [windows[first : first + each] for first in range(0, len(windows), each)]
        logits = [self._logits(torch.cat([window.of(whole) for window in part])) for part in parts]
        by_window = [one for part in logits for one in part.split(len(whole))]
        size = [side // self.stride for side in whole.shape[-2:]]
        total, count = (by_window[0].new_zeros(*axes, *size) for axes in (by_window[0].shape[:2], (1, 1)))
        for window, one in zip(windows, by_window, strict=True):
            window.of(total, self.stride).add_(one)
            window.of(count, self.stride).add_(1)
        return total / count


def _resized(low: Tensor, image: Tensor, stride: int) -> Tensor:
    """A map at one pixel to `stride` of the image's, in float32."""
    size = [side // stride for side in image.shape[-2:]]
    # In float32: see `Segmenter.upsampled`.
    low = low.float()
    return low if list(low.shape[-2:]) == size else F.interpolate(low, size, mode="bilinear", align_corners=False)
