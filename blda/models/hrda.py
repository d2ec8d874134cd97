"""HRDA: context at low and detail at full resolution, fused by a learned attention (Hoyer et al., ECCV 2022).

Details that the paper leaves open (resolution of the fusion, alignment, layers of the attention, norms of each pass)
follow the published code: lhoyer/HRDA, `hrda_encoder_decoder.py`, `hrda_head.py`, `configs/hrda/gtaHR2csHR_hrda.py`.
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
    """Return the side of a cell, in image pixels: the area of one pixel of the context's logits.

    Windows are aligned to cells. Raises ValueError for a wrong scale or stride.
    """
    if not 0 < scale <= 1 or abs(1 / scale - round(1 / scale)) > 1e-6:
        raise ValueError(f"model.hrda.scale is {scale}; it must be 1 / n for a whole number n, such as 0.5")
    if stride < 1:
        raise ValueError(f"model.hrda.stride is {stride}; it must be at least 1, such as 4 for pyramid heads")
    return stride * round(1 / scale)


class HRDA(Segmenter):
    """Segmenter of two resolutions: context of the whole image at low, detail of windows at full resolution.

    One encoder and one head serve both. The context is encoded first.

    encoder, head, mean, std: see `Segmenter`.
    attention: a second head on the context's features; the sigmoid of its output is the share of the detail in the
        logits of each class.
    detail: (height, width) of a window in pixels, multiples of `cell_of(scale, stride)`; a smaller image is one window.
    scale: scale of the context, 1 / n for a whole number n.
    windows: largest number of windows that are encoded at once.
    stride: image pixels a pixel of the map on which context and detail are fused. The published code uses the stride of
        the head: 4 for DAFormer, 8 for DeepLab-v2 on a ResNet.

    In training, maps images (B, 3, H, W) to an `Output` with the fused logits and the detail's logits in one window.
    Outside the window the fused logits are the context's. The window is drawn from Python's generator, once for the
    batch, and is the same on all processes because they seed this generator alike.

    In evaluation, maps images to fused logits (B, classes, H, W), with the detail averaged over windows that overlap by
    half. H and W may be any: the last row and column are repeated up to multiples of the cell.

    BatchNorm normalises the context and the windows separately; the teacher's normalises all windows that are encoded
    at once together.
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
        padded = self._padded(image)
        window = self.draw_window(padded) if self.training else None
        context, attention = self._context(padded)
        if window is None:
            return self._cropped(self._fused(context, attention, self._everywhere(padded)), padded, image)
        detail = self._logits(window.of(padded))
        # The attention is zero outside the window, where there is no detail.
        attention = window.placed(window.of(attention, self.cell), attention, self.cell)
        placed = window.placed(detail, padded[..., :: self.stride, :: self.stride], self.stride)
        fused = self._cropped(self._fused(context, attention, placed), padded, image)
        return Output(fused, detail=self._inside(window, self.upsampled(detail, window.of(padded)), image))

    def _padded(self, image: Tensor) -> Tensor:
        """Repeat the last row and column of an image up to multiples of the cell."""
        below, right = (-side % self.cell for side in image.shape[-2:])
        return F.pad(image, (0, right, 0, below), mode="replicate") if below or right else image

    def _cropped(self, fused: Tensor, padded: Tensor, image: Tensor) -> Tensor:
        """Upsample fused logits to the padded image, and crop them to the image."""
        return self.upsampled(fused, padded)[..., : image.shape[-2], : image.shape[-1]]

    def _inside(self, window: Window, logits: Tensor, image: Tensor) -> Detail:
        """Crop a window and its logits to the image, without the padding."""
        height, width = (side - start for side, start in zip(image.shape[-2:], window[:2], strict=True))
        window = window._replace(height=min(window.height, height), width=min(window.width, width))
        return Detail(logits[..., : window.height, : window.width], window)

    def _context(self, padded: Tensor) -> tuple[Tensor, Tensor]:
        """Return the context's logits and the attention, both (B, classes, H / cell, W / cell)."""
        features = self.features(_resized(padded, padded, self.cell // self.stride))
        logits, share = self.head(features), self.attention(features)
        return _resized(logits, padded, self.cell), _resized(share, padded, self.cell).sigmoid()

    def _logits(self, window: Tensor) -> Tensor:
        """Return the detail's logits of a window (B, 3, h, w) of the image: (B, classes, h / stride, w / stride)."""
        return _resized(self.head(self.features(window)), window, self.stride)

    @staticmethod
    def _fused(context: Tensor, attention: Tensor, detail: Tensor) -> Tensor:
        """Fuse logits of context and detail by the attention, at the resolution of the detail's logits."""
        kept, share = (
            F.interpolate(low, detail.shape[-2:], mode="bilinear", align_corners=False)
            for low in ((1 - attention) * context, attention)
        )
        return torch.addcmul(kept, share, detail)

    @torch.compiler.disable
    def draw_window(self, padded: Tensor) -> Window:
        """Draw the window of a training batch, aligned to the cell."""
        size = self._window_size(padded)
        free = [(side - taken) // self.cell for side, taken in zip(padded.shape[-2:], size, strict=True)]
        # Not from torch's generator, which differs between processes, while one window serves the global batch.
        top, left = (self.cell * random.randrange(steps + 1) for steps in free)
        return Window(top, left, *size)

    def _window_size(self, padded: Tensor) -> tuple[int, int]:
        height, width = map(min, self.detail, padded.shape[-2:])
        return height, width

    def _everywhere(self, padded: Tensor) -> Tensor:
        """Return the detail's logits (B, classes, H / stride, W / stride), averaged where windows overlap."""
        windows = overlapping(tuple(padded.shape[-2:]), self._window_size(padded))
        step = max(1, self.windows // len(padded))
        chunks = [windows[first : first + step] for first in range(0, len(windows), step)]
        logits = [self._logits(torch.cat([window.of(padded) for window in chunk])) for chunk in chunks]
        by_window = [one for chunk in logits for one in chunk.split(len(padded))]
        size = [side // self.stride for side in padded.shape[-2:]]
        total, count = (by_window[0].new_zeros(*axes, *size) for axes in (by_window[0].shape[:2], (1, 1)))
        for window, one in zip(windows, by_window, strict=True):
            window.of(total, self.stride).add_(one)
            window.of(count, self.stride).add_(1)
        return total / count


def _resized(low: Tensor, image: Tensor, stride: int) -> Tensor:
    """Resize a map to the image's height and width divided by `stride`, in float32 as in `Segmenter.upsampled`."""
    size = [side // stride for side in image.shape[-2:]]
    low = low.float()
    return low if list(low.shape[-2:]) == size else F.interpolate(low, size, mode="bilinear", align_corners=False)
