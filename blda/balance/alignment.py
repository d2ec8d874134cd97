"""Alignment of logits to the shared anchors, by pure functions of (logits, labels, statistics)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from blda.balance import logit_grid, pixels
from blda.balance.gaussian_mixture import Mixture, cdf, quantile
from blda.balance.kernels.choice import mixtures
from blda.balance.logit_statistics import MOST_ELEMENTS, LogitStatistics
from blda.data.class_labels import class_labels
from blda.data.sample import IGNORE

CLIP = 0.01
"""r of METHOD 2: cumulative densities are clipped to [r, 1 - r] before the anchor's quantile is taken."""


class Alignment(NamedTuple):
    """Alignment z' = F_a^-1(clip(F_cl(z), r, 1 - r)) of the cells of one domain, tabulated (METHOD 2).

    lookup: aligned logit at every node of the grid, (C, C, BINS).
    active: (C,) bool, False for rows that correct nothing: never estimated, or of classes not in the batch.
    """

    lookup: Tensor
    active: Tensor


@torch.no_grad()
def alignment(statistics: LogitStatistics, source: LogitStatistics, labels: Tensor | None = None) -> Alignment:
    """Tabulate the alignment of one domain to the anchors of the source; no row is active before these are estimated.

    statistics: statistics of the domain.
    source: statistics of the source, which hold the anchors.
    labels: labels of the batch to correct; None for any batch. On a CPU, rows of classes that are not among them are
        left out: zero, and not active. On a GPU all rows are tabulated, because the host does not wait for the labels.
    """
    return alignments([(statistics, labels)], source)


@torch.no_grad()
def alignments(domains: Sequence[tuple[LogitStatistics, Tensor | None]], source: LogitStatistics) -> Alignment:
    """Tabulate the alignments of several domains in one lookup table, (domains x C, C, BINS); see `stacked`.

    domains: for each domain, its statistics and the labels of the batch to correct; see `alignment`.
    """
    num_classes, device = source.num_classes, source.means.device
    domains = [(statistics, _labels_of(statistics, source, labels)) for statistics, labels in domains]
    shape = (len(domains) * num_classes, num_classes, logit_grid.BINS)
    # Rows that are left out on a CPU take no memory: NumPy's zeros are allocated when they are written.
    on_cpu = device.type == "cpu"
    lookup = torch.from_numpy(np.zeros(shape, np.float32)) if on_cpu else torch.zeros(shape, device=device)
    active = torch.stack([_active(statistics, source, labels) for statistics, labels in domains])
    compiled = mixtures(device.type)
    for (statistics, _), of_domain, rows in zip(domains, lookup.split(num_classes), active, strict=True):
        if compiled is not None:
            compiled.align(statistics.mixture, source.anchors, CLIP, of_domain, rows)
        else:
            _align(statistics.mixture, source.anchors, of_domain, rows)
    return Alignment(lookup, active.flatten())


def _labels_of(statistics: LogitStatistics, source: LogitStatistics, labels: Tensor | None) -> Tensor | None:
    """Return labels as int64; ValueError for labels that are not classes, and for statistics of different classes."""
    if statistics.num_classes != source.num_classes:
        raise ValueError(
            f"statistics of {statistics.num_classes} classes, but the source's of {source.num_classes}; use the same "
            "classes for both domains"
        )
    pixels.same_device("statistics", statistics.means, source.means)
    # Only a CPU looks at labels, see `alignment`.
    unseen = labels is None or labels.device.type != "cpu"
    return None if unseen else class_labels(labels, source.num_classes)[0]


def _active(statistics: LogitStatistics, source: LogitStatistics, labels: Tensor | None) -> Tensor:
    """Return the rows that correct the batch, (C,) bool."""
    active = statistics.estimated[: statistics.num_classes] & source.estimated[source.num_classes]
    if labels is None or labels.device.type != "cpu":
        return active
    return active & (torch.bincount(labels.flatten(), minlength=len(active))[: len(active)] > 0)


def _align(mixture: Mixture, anchors: Mixture, lookup: Tensor, active: Tensor) -> None:
    """Write F_a^-1(clip(F(z))) at all nodes into rows of the lookup table (C, C, BINS), in plain torch.

    mixture: class mixtures, (C, C, K). anchors: (2, K). active: (C,) bool, rows to write on a CPU.
    """
    device = lookup.device
    rows = torch.arange(len(lookup), device=device)
    if device.type == "cpu":
        rows = rows[active]
    for chunk in rows.split(max(1, MOST_ELEMENTS // lookup[0].numel())):
        cells = Mixture(*(field[chunk] for field in mixture))
        lookup[chunk] = _aligned(cells, anchors, 1)
        own = Mixture(*(field[torch.arange(len(chunk), device=device), chunk] for field in cells))
        lookup[chunk, chunk] = _aligned(own, anchors, 0)


def _aligned(mixture: Mixture, anchors: Mixture, index: int) -> Tensor:
    """Compute F_a^-1(clip(F(z))) of mixtures (..., K) at all nodes, (..., BINS); index: row of the anchor."""
    anchor, nodes = Mixture(*(field[index, None] for field in anchors)), logit_grid.nodes(mixture.means.device)
    cdf_values = cdf(mixture, nodes).clamp_(CLIP, 1 - CLIP)
    return quantile(anchor, cdf_values.view(1, -1)).view(cdf_values.shape)


@torch.no_grad()
def correction(logits: Tensor, labels: Tensor, domains: Sequence[Alignment], domain: Tensor | int = 0) -> Tensor:
    """Compute the correction Delta_y(z) of every logit, (B, C, *S) float32: aligned logit minus logit (METHOD 2).

    logits: (B, C, *S).
    labels: (B, *S) of any integer type; they choose the row. The correction of ignored pixels is zero.
    domains: alignment of each domain; the correction in rows that are not active is zero.
    domain: index into `domains` for each pixel, (B, *S), or one index for all.
    Raises ValueError for other shapes, and on a CPU for labels that are not classes and domains without an alignment;
    on a GPU the corrections of such pixels are NaN.
    """
    num_classes = logits.shape[1:2].numel()
    lookup, active = stacked(domains, num_classes)
    labels = pixels.checked(logits, labels, num_classes)
    pixels.same_device("alignment", lookup, logits)
    count = len(lookup) // num_classes
    domain = pixels.domains_of(domain, labels, num_classes, count)
    row, usable = pixels.rows(labels, domain, num_classes, count)
    unmoved = torch.where(usable | (labels == IGNORE), 0.0, torch.nan)
    known = usable & active[row]
    row, column = pixels.spread(row, logits)
    place = logit_grid.position(logits)
    left = place.long().clamp_max_(logit_grid.BINS - 2)
    cell = (row * num_classes + column) * logit_grid.BINS + left
    moved = torch.lerp(lookup.take(cell), lookup.take(cell + 1), place.sub_(left))
    return torch.where(known[:, None], moved.sub_(logits), unmoved[:, None])


def stacked(domains: Sequence[Alignment], num_classes: int) -> Alignment:
    """Join alignments of several domains in one lookup table, (domains x C, C, BINS) float32; row domain x C + class.

    Raises ValueError for alignments of other classes, because kernels do not check their indices.
    """
    for lookup, active in domains:
        rows = lookup.shape[:1].numel() if lookup.ndim else 0
        fits = lookup.ndim == 3 and lookup.shape[1:] == (num_classes, logit_grid.BINS) and rows % num_classes == 0
        if not fits or not rows or active.shape != (rows,):
            shapes = f"{tuple(lookup.shape)} with {tuple(active.shape)}"
            raise ValueError(
                f"an alignment {shapes} does not belong to logits of {num_classes} classes; make it with `alignment`"
            )
        pixels.same_device("alignment", active, lookup)
    if not domains:
        raise ValueError("there is no alignment; give one for each domain")
    lookup, active = domains[0] if len(domains) == 1 else map(torch.cat, zip(*domains, strict=True))
    return Alignment(lookup.float(), active.bool())


def balanced(logits: Tensor, delta: Tensor, tau: float) -> Tensor:
    """Compute the balanced logits z - tau * Delta_y(z), in which an under-predicted class is lower (METHOD 4)."""
    return logits - tau * delta


@torch.no_grad()
def cumulative_density(logits: Tensor, labels: Tensor, statistics: LogitStatistics) -> Tensor:
    """Compute F_yy(z_y), (B, *S) in [0, 1]: the rank of a pixel's own logit among those of its class (METHOD 5).

    logits: (B, C, *S).
    labels: (B, *S) of any integer type; the density of ignored pixels is zero.
    statistics: statistics of the pixels' domain.
    Raises ValueError for other shapes and labels.
    """
    labels = pixels.checked(logits, labels, statistics.num_classes)
    known = pixels.known(labels, statistics.num_classes)
    pixels.same_device("statistics", statistics.means, logits)
    row = torch.where(known, labels, 0)
    own = Mixture(*(torch.diagonal(field).t() for field in statistics.mixture))
    cdf_values = cdf(own, logit_grid.nodes(logits.device))
    place = logit_grid.position(logits.gather(1, row[:, None])[:, 0])
    left = place.long().clamp_max_(logit_grid.BINS - 2)
    cell = row * logit_grid.BINS + left
    density = torch.lerp(cdf_values.take(cell), cdf_values.take(cell + 1), place.sub_(left))
    return torch.where(known, density, 0.0)
