"""Output of a network in training: logits and further predictions."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from blda.models.sliding_window import Window


class Detail(NamedTuple):
    """HRDA's detail prediction of one window of the images.

    logits: logits of the detail alone, (B, C, h, w). window: position and size of the window, in pixels.
    """

    logits: Tensor
    window: Window


class Features(NamedTuple):
    """Features of one call of an encoder.

    input: the encoder's normalised input, (B, 3, h, w), without gradient. last: its coarsest level, (B, F, h', w').
    """

    input: Tensor
    last: Tensor


class Output(NamedTuple):
    """Predictions of a network in training; fields that a network does not provide are None.

    logits: logits at the image's size, (B, C, H, W).
    density: predicted F_yy(z_y) of each pixel, (B, H, W), for whichever class y labels it (METHOD 5).
    detail: the detail prediction that is part of the fused logits of two resolutions (METHOD 6).
    features: features of the encoder's first call in the forward.
    projected: its coarsest level through a head that predicts frozen features, (B, F, h, w).
    """

    logits: Tensor
    density: Tensor | None = None
    detail: Detail | None = None
    features: Features | None = None
    projected: Tensor | None = None


def logits_of(output: Tensor | Output) -> Tensor:
    """Return the logits of an output, which may be the logits themselves."""
    return output if isinstance(output, Tensor) else output.logits


def unused(*outputs: Tensor | None) -> Tensor | float:
    """Return 0 with a gradient for outputs that a loss does not use; None counts for nothing.

    Training on several processes waits for a gradient of every parameter in every pass.
    """
    return sum(0 * output.float().sum() for output in outputs if output is not None)
