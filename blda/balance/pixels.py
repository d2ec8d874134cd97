"""Checks of logits (B, C, *S) and labels (B, *S) of any classifier, and their reshaping to rows of pixels.

All indices of compiled kernels pass through here. On a CPU every value is checked. On a GPU a check would make the host
wait for the device, so kernels there read only inside their lookup tables, and a wrong value makes the result NaN.
"""

from __future__ import annotations

import operator

import torch
from torch import Tensor

from blda.data.class_labels import class_labels, integers


def flat_logits(logits: Tensor) -> Tensor:
    """Reshape logits (B, C, *S) to (B, C, N), a view if strides allow; logits (B, C) of images become (1, C, B)."""
    return logits.t()[None] if logits.ndim == 2 else logits.flatten(2)


def flat_map(values: Tensor) -> Tensor:
    """Reshape values (B, *S) to (B, N); values (B,) of images become (1, B)."""
    return (values[None] if values.ndim == 1 else values.flatten(1)).contiguous()


def checked(logits: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Check logits and labels, and return the labels as int64.

    logits: floats, (B, classes, *S).
    labels: integers of any type on the same device, (B, *S), each a class or IGNORE. Values are checked on a CPU only.
    Raises ValueError that names the wrong shape, type, device or value.
    """
    check_logits(logits, num_classes)
    if not isinstance(labels, Tensor) or labels.shape != logits.shape[:1] + logits.shape[2:]:
        shape = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        fix = _fix_of_labels(logits, labels) if isinstance(labels, Tensor) else "give a tensor of integers"
        raise ValueError(f"labels {shape} do not belong to logits {tuple(logits.shape)}; {fix}")
    same_device("labels", labels, logits)
    return class_labels(labels, num_classes)[0] if labels.device.type == "cpu" else integers("labels", labels)


def known(labels: Tensor, num_classes: int) -> Tensor:
    """Return the mask of labels that are a class, bool."""
    return (labels >= 0) & (labels < num_classes)


def check_logits(logits: Tensor, num_classes: int) -> None:
    """Raise ValueError unless logits are floats (B, classes, *S)."""
    if not logits.is_floating_point():
        raise ValueError(f"logits are {logits.dtype}; give floats")
    if logits.ndim < 2 or logits.shape[1] != num_classes:
        shape, channels = tuple(logits.shape), logits.shape[1:2].numel()
        fix = "give (B, C, H, W), or (B, C) of a classifier, with a channel for each class"
        if logits.ndim in (1, 3) and shape[0] == num_classes:
            fix = "add the axis of the batch: logits[None], labels[None]"
        elif logits.ndim == 4 and shape[-1] == num_classes:
            fix = "put the channels second: logits.permute(0, 3, 1, 2)"
        raise ValueError(f"logits {shape} have {channels} channels, expected {num_classes} classes; {fix}")


def _fix_of_labels(logits: Tensor, labels: Tensor) -> str:
    """Say how labels of a wrong shape get the right one."""
    batch, *size = logits.shape[:1] + logits.shape[2:]
    if labels.shape == (batch, 1, *size):
        return "take labels.squeeze(1)"
    if labels.shape == logits.shape:
        return "take labels.argmax(1), a class for each pixel"
    if labels.ndim == logits.ndim - 1 == 3 and len(labels) == batch:
        return "resize the logits first: F.interpolate(logits, labels.shape[-2:], mode='bilinear')"
    return "give one label a pixel"


def weights_of(weight: Tensor | None, labels: Tensor) -> Tensor | None:
    """Return weights of pixels (B, *S) as float32, or None for weights of 1; ValueError for another shape."""
    if weight is None:
        return None
    if not isinstance(weight, Tensor) or weight.shape != labels.shape or weight.is_complex():
        shape = tuple(weight.shape) if isinstance(weight, Tensor) else type(weight).__name__
        raise ValueError(f"weight {shape} does not belong to labels {tuple(labels.shape)}; give one number a pixel")
    same_device("weight", weight, labels)
    return weight.float()


def domains_of(domain: Tensor | int, labels: Tensor, num_classes: int, count: int) -> Tensor | int:
    """Check and return the domain of each pixel, (B, *S) bool or int64, or the one domain of all pixels.

    count: number of domains.
    Raises ValueError for another shape, and on a CPU if a labelled pixel has a domain outside [0, count).
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
        raise ValueError(
            f"domain {tuple(domain.shape)} does not belong to labels {tuple(labels.shape)}; give one domain a pixel"
        )
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
    """Return each pixel's row domain x C + class in a lookup table of `count` domains, and the mask of pixels with one.

    Pixels without a class or with a domain outside the table get row 0.
    """
    usable = known(labels, num_classes)
    if isinstance(domain, Tensor):
        usable = usable & (domain >= 0) & (domain < count)
    return torch.where(usable, labels + num_classes * domain, 0), usable


def same_device(name: str, values: Tensor, others: Tensor) -> None:
    """Raise ValueError unless both tensors are on one device; name: name of `values` in the message."""
    if values.device != others.device:
        raise ValueError(f"{name} on {values.device}, the rest on {others.device}; move them to one device")


def spread(labels: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return labels with a channel axis, (B, 1, *S), and channel indices (C, 1, ...), which broadcast over logits."""
    column = torch.arange(logits.shape[1], device=logits.device)
    return labels[:, None], column.view(-1, *[1] * (logits.ndim - 2))
