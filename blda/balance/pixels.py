"""Logits and labels of any classifier, (B, C, *S) and (B, *S): checked where they come in, and as rows of pixels.

What compiled kernels index with passes through here first. On a CPU every number is looked at; elsewhere that would
wait for the device, so kernels there get only numbers inside their tables, and a wrong one makes the result NaN.
"""

from __future__ import annotations

import operator

import torch
from torch import Tensor

from blda.data.class_labels import class_labels, integers
from blda.data.sample import IGNORE


def flat_logits(logits: Tensor) -> Tensor:
    """(B, C, *S) -> (B, C, N), a view where strides allow; images without pixels of their own, (B, C), -> (1, C, B)."""
    return logits.t()[None] if logits.ndim == 2 else logits.flatten(2)


def flat_map(values: Tensor) -> Tensor:
    """(B, *S) -> (B, N), alike; (B,) -> (1, B)."""
    return (values[None] if values.ndim == 1 else values.flatten(1)).contiguous()


def checked(logits: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Labels of any integer type as int64, and which of them are a class; see `class_labels`.

    ValueError naming what is wrong unless logits are floats (B, classes, *S) and labels (B, *S) on the same device.
    """
    check_logits(logits, num_classes)
    if not isinstance(labels, Tensor) or labels.shape != logits.shape[:1] + logits.shape[2:]:
        found = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(f"labels {found} do not belong to logits {tuple(logits.shape)}")
    same_device("labels", labels, logits)
    return class_labels(labels, num_classes)


def check_logits(logits: Tensor, num_classes: int) -> None:
    """ValueError unless logits are floats (B, classes, *S)."""
    if not logits.is_floating_point():
        raise ValueError(f"logits are {logits.dtype}; give floats, as the network computes them")
    if logits.ndim < 2 or logits.shape[1] != num_classes:
        raise ValueError(f"logits have {logits.shape[1:2].numel()} channels, expected {num_classes} classes")


def weights_of(weight: Tensor | None, labels: Tensor) -> Tensor:
    """Weights of pixels (B, *S) as float32, 1 for None; ValueError for another shape."""
    if weight is None:
        return torch.ones_like(labels, dtype=torch.float32)
    if not isinstance(weight, Tensor) or weight.shape != labels.shape or weight.is_complex():
        found = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(f"weight {found} does not belong to labels {tuple(labels.shape)}; give one number a pixel")
    same_device("weight", weight, labels)
    return weight.float()


def domains_of(domain: Tensor | int, known: Tensor, count: int) -> tuple[Tensor | int, Tensor]:
    """The domain of each pixel, int64 or one number for all, and which pixels are of a class and a domain (bool).

    ValueError for another shape, and for domains outside [0, count): on a GPU, where looking would wait, their pixels
    are marked False.
    """
    if not isinstance(domain, Tensor):
        try:
            domain = operator.index(domain)
        except TypeError as error:
            raise ValueError(f"domain is {domain!r}; give an integer, or a tensor of integers") from error
        if not 0 <= domain < count:
            raise ValueError(f"domain {domain} is outside [0, {count}); give one alignment for each domain")
        return domain, known
    domain = integers("domains", domain)
    if domain.ndim and domain.shape != known.shape:
        raise ValueError(f"domain {tuple(domain.shape)} does not belong to labels {tuple(known.shape)}")
    same_device("domain", domain, known)
    inside = (domain >= 0) & (domain < count)
    if domain.device.type == "cpu" and not (inside | ~known).all():
        wrong = int(domain.expand_as(known)[known & ~inside][0])
        raise ValueError(f"domain {wrong} is outside [0, {count}); give one alignment for each domain")
    return torch.where(inside, domain, 0), known & inside


def rows(labels: Tensor, usable: Tensor, domain: Tensor | int, num_classes: int) -> Tensor:
    """Row of each pixel in tables of all domains, domain x C + class: -1 for IGNORE, 0 for what is wrong."""
    return torch.where(usable, labels + num_classes * domain, torch.where(labels == IGNORE, -1, 0))


def same_device(name: str, values: Tensor, others: Tensor) -> None:
    """ValueError unless both are on one device."""
    if values.device != others.device:
        raise ValueError(f"{name} on {values.device}, the rest on {others.device}; move them to one device")


def spread(labels: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Labels with a channel axis, (B, 1, *S), and the channels' numbers, (C, 1, ...), to broadcast over logits."""
    column = torch.arange(logits.shape[1], device=logits.device)
    return labels[:, None], column.view(-1, *[1] * (logits.ndim - 2))
