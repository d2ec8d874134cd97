"""Labels in the form the library computes with: int64 class indices and IGNORE, checked where they come in."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from blda.data.sample import IGNORE

_OTHER = ("uint16", "uint32", "uint64")  # torch knows little more of these than how to convert them
INTEGERS = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64} | {
    getattr(torch, name) for name in _OTHER if hasattr(torch, name)
}
"""Types that labels and maps of domains may have; bool counts as 0 and 1."""


def integers(name: str, values: Tensor) -> Tensor:
    """Convert integers of any type to int64; ValueError naming `name` for any other type.

    Computing with uint8 and int8 is an error: -1 becomes 255, and a class times the number of classes overflows.
    """
    if not isinstance(values, Tensor) or values.dtype not in INTEGERS:
        found = values.dtype if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"{name} are {found}; give a tensor of integers, such as torch.int64 or torch.uint8")
    return values.long()


def class_labels(labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Convert labels of any integer type and shape to int64, with a bool mask of the pixels that have a class.

    IGNORE is no class. Any other label outside [0, num_classes) is an error: on a CPU, ValueError naming it. On other
    devices checking would wait for the device, so the label counts as no class there, and the loss becomes NaN, which
    stops training.
    """
    labels = integers("labels", labels)
    if not 0 < num_classes <= IGNORE:
        raise ValueError(
            f"the number of classes is {num_classes}; it must be 1 to {IGNORE}, as {IGNORE} marks an ignored pixel"
        )
    if labels.device.type != "cpu":
        return labels, (labels >= 0) & (labels < num_classes)
    # NumPy compares in a fifth of torch's time, and a negative number without its sign is a large one.
    unsigned = labels.numpy().view(np.uint64)
    inside = np.asarray(unsigned < num_classes)
    known_or_ignored = inside | (unsigned == IGNORE)
    if not known_or_ignored.all():
        wrong = int(labels.numpy()[~known_or_ignored][0])
        raise ValueError(f"label {wrong} is outside [0, {num_classes}) and not {IGNORE} (ignored); check the label ids")
    return labels, torch.from_numpy(inside)
