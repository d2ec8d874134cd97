"""What a network in training says beside its logits."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from blda.models.sliding_window import Window


class Detail(NamedTuple):
    """logits: (B, C, h, w), what the detail alone says of one window of the images; window: where it lies."""

    logits: Tensor
    window: Window


class Features(NamedTuple):
    """input: (B, 3, h, w), an encoder's normalised input, no gradient. last: (B, F, h', w'), its coarsest level."""

    input: Tensor
    last: Tensor


class Output(NamedTuple):
    """logits: (B, C, H, W), at the image's size.

    density: (B, H, W), the predicted F_yy(z_y) of each pixel, whatever its class (METHOD 5). detail: of two resolutions
    (METHOD 6), part of which the logits are fused. features: of the encoder's first call in the forward. Parts that a
    network was not asked for are None.
    """

    logits: Tensor
    density: Tensor | None = None
    detail: Detail | None = None
    features: Features | None = None


def logits_of(output: Tensor | Output) -> Tensor:
    """The logits, whether or not something stands beside them."""
    return output if isinstance(output, Tensor) else output.logits
