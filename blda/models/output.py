"""What a network in training says beside its logits."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Output(NamedTuple):
    """logits: (B, C, H, W), at the image's size.

    density: (B, H, W), the predicted F_yy(z_y) of each pixel, whatever its class (METHOD 5). Parts that a network was
    not asked for are None.
    """

    logits: Tensor
    density: Tensor | None = None


def logits_of(output: Tensor | Output) -> Tensor:
    """The logits, whether or not something stands beside them."""
    return output if isinstance(output, Tensor) else output.logits
