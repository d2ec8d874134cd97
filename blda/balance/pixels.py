"""Logits and labels of any classifier, (B, C, *S) and (B, *S), as rows of pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from blda.data.sample import IGNORE


def flat_logits(logits: Tensor) -> Tensor:
    """(B, C, *S) -> (B, C, N), a view where strides allow; images without pixels of their own, (B, C), -> (1, C, B)."""
    return logits.t()[None] if logits.ndim == 2 else logits.flatten(2)


def flat_map(values: Tensor) -> Tensor:
    """(B, *S) -> (B, N), alike; (B,) -> (1, B)."""
    return (values[None] if values.ndim == 1 else values.flatten(1)).contiguous()


def known(labels: Tensor, num_classes: int) -> Tensor:
    """Which labels are a class: IGNORE is none. Any other label is a mistake, see `refuse_unknown`."""
    refuse_unknown(labels, num_classes)
    return (labels >= 0) & (labels < num_classes)


def refuse_unknown(labels: Tensor, num_classes: int) -> None:
    """ValueError naming a label that is neither a class nor IGNORE, on a CPU.

    Elsewhere to look would wait for the device: such a label counts for no class, and the balanced loss becomes NaN,
    on which training stops.
    """
    if labels.device.type != "cpu":
        return
    wrong = ((labels < 0) | (labels >= num_classes)) & (labels != IGNORE)
    if wrong.any():
        raise ValueError(
            f"label {int(labels[wrong][0])} is outside [0, {num_classes}) and not {IGNORE} (ignored); "
            "check the label ids"
        )


def check(logits: Tensor, labels: Tensor, num_classes: int) -> None:
    """ValueError naming the shape unless logits are (B, classes, *S) and labels (B, *S)."""
    if logits.ndim < 2 or logits.shape[1] != num_classes:
        raise ValueError(f"logits have {logits.shape[1:2].numel()} channels, expected {num_classes} classes")
    if labels.shape != logits.shape[:1] + logits.shape[2:]:
        raise ValueError(f"labels {tuple(labels.shape)} do not belong to logits {tuple(logits.shape)}")


def spread(labels: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Labels with a channel axis, (B, 1, *S), and the channels' numbers, (C, 1, ...), to broadcast over logits."""
    column = torch.arange(logits.shape[1], device=logits.device)
    return labels[:, None], column.view(-1, *[1] * (logits.ndim - 2))
