"""Batches that self-training builds from samples: pseudo-labels of target images, and mixed images."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class PseudoLabels:
    """Pseudo-labels of B target images.

    label: (B, H, W) int64, a class everywhere. weight: (B, H, W) float32 >= 0, weight of each pixel in the loss.
    probabilities: (B, C, H, W), class probabilities whose argmax is the label; None when nobody needs them.
    For whole images the shapes are (B,) and (B, C).
    """

    label: Tensor
    weight: Tensor
    probabilities: Tensor | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Mixed:
    """B images, each mixed from both domains.

    image: (B, 3, H, W). label: (B, H, W) int64, true or pseudo. weight: (B, H, W) float32, weight of each pixel in the
    loss. from_source: (B, H, W) bool, True where a pixel comes from the source; nothing else says so.
    For whole images label, weight and from_source are (B,).
    """

    image: Tensor
    label: Tensor
    weight: Tensor
    from_source: Tensor
