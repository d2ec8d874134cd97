"""Logits and labels of any classifier, (B, C, *S) and (B, *S): checked where they come in, and as rows of pixels.

What compiled kernels index with passes through here first. On a CPU every number is looked at; elsewhere that would
wait for the device, so kernels there get only numbers inside their tables, and a wrong one makes the result NaN.
"""

from __future__ import annotations

import operator

import torch
from torch import Tensor

from blda.data.class_labels import class_labels, integers


def flat_logits(logits: Tensor) -> Tensor:
    """(B, C, *S) -> (B, C, N), a view where strides allow; images without pixels of their own, (B, C), -> (1, C, B)."""
    return logits.t()[None] if logits.ndim == 2 else logits.flatten(2)


def flat_map(values: Tensor) -> Tensor:
    """(B, *S) -> (B, N), alike; (B,) -> (1, B)."""
    return (values[None] if values.ndim == 1 else values.flatten(1)).contiguous()


def checked(logits: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Labels of any integer type as int64.

    ValueError naming what is wrong unless logits are floats (B, classes, *S) and labels (B, *S) on the same device,
    each of them a class or IGNORE, which is looked at on a CPU only.
    """
    check_logits(logits, num_classes)
    if not isinstance(labels, Tensor) or labels.shape != logits.shape[:1] + logits.shape[2:]:
        found = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"labels {found} do not belong to logits {tuple(logits.shape)}")
    same_device("labels", labels, logits)
    return class_labels(labels, num_classes)[0] if labels.device.type == "cpu" else integers("labels", labels)


def known(labels: Tensor, num_classes: int) -> Tensor:
    """Mask of the labels that are a class."""
    return (labels >= 0) & (labels < num_classes)


def check_logits(logits: Tensor, num_classes: int) -> None:
    """ValueError unless logits are floats (B, classes, *S)."""
    if not logits.is_floating_point():
        raise ValueError(f"logits are {logits.dtype}; give floats, as the network computes them")
    if logits.ndim < 2 or logits.shape[1] != num_classes:
        raise ValueError(f"logits have {logits.shape[1:2].numel()} channels, expected {num_classes} classes")


def weights_of(weight: Tensor | None, labels: Tensor) -> Tensor | None:
    """Weights of pixels (B, *S) as float32, None for 1; ValueError for another shape."""
    if weight is None:
        return None
    if not isinstance(weight, Tensor) or weight.shape != labels.shape or weight.is_complex():
        found = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(f"weight {found} does not belong to labels {tuple(labels.shape)}; give one number a pixel")
    same_device("weight", weight, labels)
    return weight.float()


def domains_of(domain: Tensor | int, labels: Tensor, num_classes: int, count: int) -> Tensor | int:
    """The domain of each pixel (B, *S), bool or int64, or one number for all.

    ValueError for another shape, and on a CPU for the domain of a labelled pixel outside [0, count).
    """
    if not isinstance(domain, Tensor):
        try:
            domain = operator.index(domain)
        except TypeError as error:
            raise ValueError(f"domain is {domain!r}; give an integer, or a tensor of integers") from error
        if not 0 <= domain < count:
            raise ValueError(f"domain {domain} is outside [0, {count}); give one alignment for each domain")
        return domain
    domain = domain if domain.dtype == torch.bool else integers("domains", domain)
    if domain.ndim and domain.shape != labels.shape:
        raise ValueError(f"domain {tuple(domain.shape)} does not belong to labels {tuple(labels.shape)}")
    same_device("domain", domain, labels)
    domain = domain.expand(labels.shape)
    if domain.device.type == "cpu":
        wrong = known(labels, num_classes) & ((domain < 0) | (domain >= count))
        if wrong.any():
            raise ValueError(
                f"domain {int(domain[wrong][0])} is outside [0, {count}); give one alignment for each domain"
            )
    return domain


def rows(labels: Tensor, domain: Tensor | int, num_classes: int, count: int) -> tuple[Tensor, Tensor]:
    """Row of each pixel in a table of `count` domains, domain x C + class, and the mask of pixels that have one.

    Pixels without a row, for want of a class or of their domain, get row 0.
    """
    usable = known(labels, num_classes)
    if isinstance(domain, Tensor):
        usable = usable & (domain >= 0) & (domain < count)
    return torch.where(usable, labels + num_classes * domain, 0), usable


def same_device(name: str, values: Tensor, others: Tensor) -> None:
    """ValueError unless both are on one device."""
    if values.device != others.device:
        raise ValueError(f"{name} on {values.device}, the rest on {others.device}; move them to one device")


def spread(labels: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return labels with a channel axis, (B, 1, *S), and channel indices (C, 1, ...), which broadcast over logits."""
    column = torch.arange(logits.shape[1], device=logits.device)
    return labels[:, None], column.view(-1, *[1] * (logits.ndim - 2))
