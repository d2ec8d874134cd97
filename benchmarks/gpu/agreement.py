"""Compare the device's kernels with the CPU's on random and adversarial inputs, through the package's own functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from blda.balance import logit_grid
from blda.balance.alignment import alignment, correction
from blda.balance.cross_entropy import balanced_cross_entropy
from blda.balance.gaussian_mixture import Mixture, cdf
from blda.balance.logit_statistics import LogitStatistics
from blda.data.sample import IGNORE


class Case(NamedTuple):
    """Input of a comparison: logits (B, C, *S), label and domain (B, *S) int64, weight (B, *S)."""

    logits: Tensor
    label: Tensor
    domain: Tensor
    weight: Tensor


def cases(rehearse: bool) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Make the inputs to compare, by name."""
    small = rehearse
    for classes, size in ((19, (512, 512)), (2, (333, 77)), (150, (128, 96)), (19, (1, 1)), (5, (7, 1031))):
        classes, size = (min(classes, 19), tuple(min(side, 40) for side in size)) if small else (classes, size)
        yield f"random C={classes} {size[0]}x{size[1]}", lambda c=classes, s=size: random(c, s)
    for name, change in CHANGES.items():
        yield name, lambda change=change: change(random(19, (24, 20) if small else (96, 130)))
    yield "whole images (B, C)", lambda: random(12, (), 33)
    if not small:
        yield "large 4x19x1024x1024", lambda: random(19, (1024, 1024), 4)


def random(classes: int, size: tuple[int, ...], batch: int = 2, seed: int = 0) -> Case:
    """Make random logits that favour their label; a tenth of the pixels is ignored."""
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(classes, (batch, *size), generator=g)
    logits = 3 * torch.randn(batch, classes, *size, generator=g)
    logits.scatter_add_(1, label[:, None], torch.full_like(logits[:, :1], 2.0))
    label[torch.rand(label.shape, generator=g) < 0.1] = IGNORE
    domain = torch.randint(2, label.shape, generator=g)
    return Case(logits, label, domain, torch.rand(label.shape, generator=g))


def _logits(change: Callable[[Tensor], Tensor]) -> Callable[[Case], Case]:
    return lambda case: case._replace(logits=change(case.logits))


def _some_nan(logits: Tensor) -> Tensor:
    return logits.masked_fill(torch.rand(logits.shape, generator=torch.Generator().manual_seed(5)) < 0.01, torch.nan)


def _within(logits: Tensor) -> Tensor:
    """Copy into a larger tensor and return a non-contiguous view of it."""
    wide = torch.zeros(*logits.shape[:-1], logits.shape[-1] + 3)
    wide[..., 2:-1] = logits
    return wide[..., 2:-1]


CHANGES: dict[str, Callable[[Case], Case]] = {
    "all ignored": lambda case: case._replace(label=torch.full_like(case.label, IGNORE)),
    "one class": lambda case: case._replace(label=torch.full_like(case.label, 3)),
    "weights zero": lambda case: case._replace(weight=torch.zeros_like(case.weight)),
    "1e4": _logits(lambda logits: 1e4 * logits),
    "1e-6": _logits(lambda logits: 1e-6 * logits),
    "constant": _logits(torch.zeros_like),
    "on the nodes": _logits(lambda logits: (64 * logits).round() / 64),
    "some NaN": _logits(_some_nan),
    "one +inf": _logits(lambda logits: logits.index_fill(-1, torch.tensor([2]), torch.inf)),
    "not contiguous": _logits(_within),
    "channels last": _logits(lambda logits: logits.contiguous(memory_format=torch.channels_last)),
    "bfloat16": _logits(lambda logits: logits.bfloat16()),
    "float16": _logits(lambda logits: logits.half()),
    "labels not contiguous": lambda case: case._replace(label=case.label.transpose(1, 2).contiguous().transpose(1, 2)),
}


def compared(case: Case, device: torch.device) -> dict[str, object]:
    """Largest differences between both devices in every term of the loss."""
    there, here = (_everything(case, each) for each in (device, torch.device("cpu")))
    same_nan = {name: bool((there[name].isnan() == here[name].isnan()).all()) for name in here}
    found = {name: _difference(there[name], here[name]) for name in here}
    limits = {name: LIMITS[name] * max(1.0, _size(here[name])) for name in here}
    limits["gradient"] = max(limits["gradient"], torch.finfo(case.logits.dtype).eps)
    wrong = [name for name in here if not same_nan[name] or found[name] > limits[name]]
    return {"agrees": not wrong, "wrong": wrong, "largest_difference": found, "size": {n: _size(here[n]) for n in here}}


LIMITS = {"counts": 0.0, "active": 0.0, "fit": 2e-3, "table": 1e-3, "correction": 1e-3, "loss": 1e-5, "gradient": 3e-5}
"""Largest difference allowed, relative to the largest number where that is above 1. Fits are of float32 sums; a
gradient is rounded to the type of the logits."""


def _everything(case: Case, device: torch.device) -> dict[str, Tensor]:
    logits, label, domain, weight = (_moved(tensor, device) for tensor in case)
    classes = logits.shape[1]
    statistics = [_statistics(classes, seed).to(device) for seed in (0, 1)]
    # From the same mixtures on both devices, so that what follows does not hang on the rounding of a fit.
    aligned = [alignment(each, statistics[0]) for each in statistics]
    fitted, nodes = _statistics(classes, 0).to(device), logit_grid.nodes(device)[::16]
    fitted.update(logits, label)
    logits = logits.detach().requires_grad_()
    loss = balanced_cross_entropy(logits, label, aligned, 0.3, domain, weight)
    # Before anything divides: in half precision a mean's gradients are too small to be told apart.
    (gradient,) = torch.autograd.grad(loss * label.numel(), logits)
    found = {
        "counts": fitted.histogram(logits.detach(), label, weight),
        # Not their parameters, which are anything where a component has no weight.
        "fit": torch.cat([cdf(each, nodes).flatten() for each in (fitted.mixture, fitted.anchors)]),
        "active": torch.cat([each.active for each in aligned]),
        # Not the other rows, which nobody reads: they are whatever the device left there.
        "table": torch.cat([each.lookup[each.active] for each in aligned]),
        "correction": correction(logits.detach(), label, aligned, domain),
        "loss": loss.detach(),
        "gradient": gradient,
    }
    return {name: tensor.double().cpu() for name, tensor in found.items()}


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Move a tensor to the device and keep its strides."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device).copy_(tensor)


def _statistics(classes: int, seed: int) -> LogitStatistics:
    """Make arbitrary mixtures on the CPU; the last class is never estimated."""
    made, g = (
        LogitStatistics(classes, momentum=0, warmup=0, min_pixels=1, seed=seed),
        torch.Generator().manual_seed(seed),
    )
    for mixture in (made.mixture, made.anchors):
        _fill(mixture, g)
    made.estimated.fill_(True)
    made.estimated[classes - 1] = False
    return made


def _fill(mixture: Mixture, g: torch.Generator) -> None:
    weights = torch.rand(mixture.weights.shape, generator=g) + 0.1
    mixture.weights.copy_(weights / weights.sum(-1, keepdim=True))
    mixture.means.copy_(3 * torch.randn(mixture.means.shape, generator=g))
    mixture.variances.copy_(torch.rand(mixture.variances.shape, generator=g) * 4 + 0.2)


def _difference(first: Tensor, second: Tensor) -> float:
    both = first.isfinite() & second.isfinite()
    return float((first - second)[both].abs().max()) if both.any() else 0.0


def _size(values: Tensor) -> float:
    finite = values[values.isfinite()]
    return float(finite.abs().max()) if finite.numel() else 0.0
