"""Correction of logits towards the shared anchors; pure functions of (logits, labels, statistics)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from blda import grid, pixels
from blda.gmm import Mixture, cdf, quantile, tabulated
from blda.kernels.choice import fused, mixtures
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
    classes, device = statistics.classes, statistics.means.device
    active = statistics.estimated[:classes] & source.estimated[classes]
    compiled = fused(device.type)
    if compiled is not None:
        return Alignment(compiled.aligned(statistics.mixture, source.anchors, active, CLIP), active)
    rows = torch.arange(classes, device=device)
    if labels is not None and device.type == "cpu":
        present = torch.bincount(labels.flatten(), minlength=classes)[:classes] > 0
        active, rows = active & present, rows[active & present]
    table = torch.zeros(classes, classes, grid.BINS, device=device)
    for some in rows.split(max(1, MOST_ELEMENTS // table[0].numel())):
        cells = Mixture(*(field[some] for field in statistics.mixture))
        table[some] = _aligned(cells, source.anchors, 1)
        own = Mixture(*(field[torch.arange(len(some), device=device), some] for field in cells))
        table[some, some] = _aligned(own, source.anchors, 0)
    return Alignment(table, active)


def _aligned(mixture: Mixture, anchors: Mixture, which: int) -> Tensor:
    """F_a^-1(clip(F(z))) of mixtures (..., K) at all nodes -> (..., BINS)."""
    anchor, nodes = Mixture(*(field[which, None] for field in anchors)), grid.nodes(mixture.means.device)
    compiled = mixtures(mixture.means.device.type)
    if compiled is None:
        height = cdf(mixture, nodes).clamp_(CLIP, 1 - CLIP)
        return quantile(anchor, height.view(1, -1)).view(height.shape)
    levels, heights = tabulated(anchor)
    flat = Mixture(*(field.flatten(0, -2) for field in mixture))
    return compiled.align(flat, nodes, CLIP, heights[0], levels[0]).view(*mixture.means.shape[:-1], grid.BINS)


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
