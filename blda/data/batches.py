"""Batches that training makes of samples: pseudo-labels of target images, and images mixed of two domains."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class PseudoLabels:
    """label: (B, H, W) int64, a class everywhere. weight: (B, H, W) float32 >= 0, of each pixel in the loss.

    probabilities: (B, C, H, W), the probabilities that the label is the likeliest class of; None where nobody needs
    them. Of whole images: (B,) and (B, C).
    """

    label: Tensor
    weight: Tensor
    probabilities: Tensor | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Mixed:
    """B images of two domains.

    image: (B, 3, H, W). label: (B, H, W) int64, true or pseudo. weight: (B, H, W) float32, of each pixel in the loss.
    from_source: (B, H, W) bool, the only thing that says which domain a pixel is from. Of whole images all three: (B,).
    """

    image: Tensor
    label: Tensor
    weight: Tensor
    from_source: Tensor
