"""A batch of clips: images with the frames around them and the motion between."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from blda.data.sample import Sample


@dataclass(frozen=True)
class Clip(Sample):
    """B key frames (`image`, `label`) with K context frames each; K = 0 is exactly a `Sample`.

    context: (B, K, 3, H, W) float32 in [0, 1], cut by the same drawn geometry as `image`.
    flow: (B, K, 2, H, W) float32 pixels, key -> neighbour; channel 0 = x right, 1 = y down;
        `flow[b, k, :, i, j]` says where key pixel (i, j) lies in neighbour k, as a displacement.
    valid: (B, K, H, W) bool, key pixels whose point is seen in neighbour k (inside the neighbour and
        forward-backward consistent); all False where the neighbour does not exist.
    offset: K signed frame distances, key -> neighbour, the same for the whole batch.
    """

    context: Tensor
    flow: Tensor
    valid: Tensor
    offset: tuple[int, ...]
