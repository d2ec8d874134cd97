"""Correction of logits towards the shared anchors; pure functions of (logits, labels, statistics)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from blda import grid, pixels
from blda.gmm import Mixture, cdf, quantile
from blda.kernels.choice import mixtures
from blda.statistics import MOST_ELEMENTS, LogitStatistics

CLIP = 0.01
"""r of METHOD 2: cumulative densities are clipped to [r, 1 - r] before the anchor's quantile is taken."""


class Alignment(NamedTuple):
    """z' = F_a^-1(clip(F_cl(z), r, 1 - r)) of one domain's cells, tabulated (METHOD 2).

    table: (C, C, BINS), aligned logit at every node of the grid. active: (C,) bool, False for rows that correct
    nothing: never estimated, or not asked for.
    """

    table: Tensor
    active: Tensor


@torch.no_grad()
def alignment(statistics: LogitStatistics, source: LogitStatistics, labels: Tensor | None = None) -> Alignment:
    """Alignment of every class of one domain to the anchors of the source; nothing is active before these are known.

    labels: of the batch to correct. On a CPU, rows of classes that are not among them are left out (zero, and not
    active); elsewhere to look for them would wait for the device.
    """
    return alignments([(statistics, labels)], source)


@torch.no_grad()
def alignments(domains: Sequence[tuple[LogitStatistics, Tensor | None]], source: LogitStatistics) -> Alignment:
    """`alignment` of several domains (statistics, labels) in one table, (domains x C, C, BINS), as `stacked`."""
    classes, device = source.classes, source.means.device
    shape = (len(domains) * classes, classes, grid.BINS)
    # On a CPU rows are left out; of NumPy's zeros, what is never written takes no memory.
    on_cpu = device.type == "cpu"
    table = torch.from_numpy(np.zeros(shape, np.float32)) if on_cpu else torch.zeros(shape, device=device)
    active = torch.stack([_active(statistics, source, labels) for statistics, labels in domains])
    compiled = mixtures(device.type)
    for (statistics, _), part, rows in zip(domains, table.split(classes), active, strict=True):
        if compiled is not None:
            compiled.align(statistics.mixture, source.anchors, CLIP, part, rows)
        else:
            _align(statistics.mixture, source.anchors, part, rows)
    return Alignment(table, active.flatten())


def _active(statistics: LogitStatistics, source: LogitStatistics, labels: Tensor | None) -> Tensor:
    """Which rows correct the batch (C,) bool."""
    active = statistics.estimated[: statistics.classes] & source.estimated[source.classes]
    if labels is None or labels.device.type != "cpu":
        return active
    return active & (torch.bincount(labels.flatten(), minlength=len(active))[: len(active)] > 0)


def _align(mixture: Mixture, anchors: Mixture, table: Tensor, active: Tensor) -> None:
    """Into rows of the table (C, C, BINS), in plain torch: F_a^-1(clip(F(z))) of mixtures (C, C, K) at all nodes."""
    device = table.device
    rows = torch.arange(len(table), device=device)
    if device.type == "cpu":
        rows = rows[active]
    for some in rows.split(max(1, MOST_ELEMENTS // table[0].numel())):
        cells = Mixture(*(field[some] for field in mixture))
        table[some] = _aligned(cells, anchors, 1)
        own = Mixture(*(field[torch.arange(len(some), device=device), some] for field in cells))
        table[some, some] = _aligned(own, anchors, 0)


def _aligned(mixture: Mixture, anchors: Mixture, which: int) -> Tensor:
    """F_a^-1(clip(F(z))) of mixtures (..., K) at all nodes -> (..., BINS)."""
    anchor, nodes = Mixture(*(field[which, None] for field in anchors)), grid.nodes(mixture.means.device)
    height = cdf(mixture, nodes).clamp_(CLIP, 1 - CLIP)
    return quantile(anchor, height.view(1, -1)).view(height.shape)


@torch.no_grad()
def correction(logits: Tensor, labels: Tensor, domains: Sequence[Alignment], domain: Tensor | int = 0) -> Tensor:
    """Delta_y(z) of every logit (B, C, *S), float32: how far alignment moves it (METHOD 2).

    logits: (B, C, *S); labels: (B, *S) choose the row. domain: (B, *S) index into `domains` of each pixel, or one
    for all. Zero where the label is IGNORE and in rows that were never estimated.
    """
    classes = logits.shape[1]
    pixels.check(logits, labels, domains[0].table.shape[1])
    known = pixels.known(labels, classes)
    table, active = stacked(domains)
    row = torch.where(known, labels + classes * domain, 0)
    known = known & active[row]
    row, column = pixels.spread(row, logits)
    place = grid.position(logits)
    left = place.long().clamp_max_(grid.BINS - 2)
    cell = (row * classes + column) * grid.BINS + left
    moved = torch.lerp(table.take(cell), table.take(cell + 1), place.sub_(left))
    return torch.where(known[:, None], moved.sub_(logits), 0.0)


def stacked(domains: Sequence[Alignment]) -> Alignment:
    """Several domains in one table, (domains x C, C, BINS): row domain x C + class."""
    return domains[0] if len(domains) == 1 else Alignment(*map(torch.cat, zip(*domains, strict=True)))


def balanced(logits: Tensor, delta: Tensor, tau: float) -> Tensor:
    """z - tau * Delta_y(z): an under-predicted class must win by more (METHOD 4)."""
    return logits - tau * delta


@torch.no_grad()
def cumulative_density(logits: Tensor, labels: Tensor, statistics: LogitStatistics) -> Tensor:
    """F_yy(z_y), (B, *S) in [0, 1]: how large a pixel's own logit is among those of its class (METHOD 5).

    logits: (B, C, *S); labels: (B, *S). Zero where the label is IGNORE.
    """
    pixels.check(logits, labels, statistics.classes)
    known = pixels.known(labels, statistics.classes)
    row = torch.where(known, labels, 0)
    own = Mixture(*(torch.diagonal(field).t() for field in statistics.mixture))
    height = cdf(own, grid.nodes(logits.device))
    place = grid.position(logits.gather(1, row[:, None])[:, 0])
    left = place.long().clamp_max_(grid.BINS - 2)
    cell = row * grid.BINS + left
    density = torch.lerp(height.take(cell), height.take(cell + 1), place.sub_(left))
    return torch.where(known, density, 0.0)
