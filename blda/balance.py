"""Correction of logits towards the shared anchors; pure functions of (logits, labels, statistics)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from blda import grid
from blda.data.sample import IGNORE
from blda.gmm import cdf, quantile
from blda.statistics import LogitStatistics

CLIP = 0.01
"""r of METHOD 2: cumulative densities are clipped to [r, 1 - r] before the anchor's quantile is taken."""


class Alignment(NamedTuple):
    """z' = F_a^-1(clip(F_cl(z), r, 1 - r)) of one domain's cells, tabulated (METHOD 2).

    table: (C, C, BINS), aligned logit at every node of the grid. active: (C,) bool, False for rows never estimated.
    """

    table: Tensor
    active: Tensor


@torch.no_grad()
def alignment(statistics: LogitStatistics, source: LogitStatistics) -> Alignment:
    """Alignment of every class of one domain to the anchors of the source; nothing is active before these are known."""
    classes = statistics.classes
    height = cdf(statistics.mixture, grid.nodes(statistics.means.device)).clamp(CLIP, 1 - CLIP)
    positive, negative = quantile(source.anchors, height.view(1, -1).expand(2, -1)).view(2, *height.shape)
    diagonal = torch.eye(classes, dtype=torch.bool, device=height.device)[..., None]
    return Alignment(
        torch.where(diagonal, positive, negative), statistics.estimated[:classes] & source.estimated[classes]
    )


@torch.no_grad()
def correction(logits: Tensor, labels: Tensor, domains: Sequence[Alignment], domain: Tensor | int = 0) -> Tensor:
    """Delta_y(z) of every logit (B, C, H, W), float32: how far alignment moves it (METHOD 2).

    logits: (B, C, H, W); labels: (B, H, W) choose the row. domain: (B, H, W) index into `domains` of each pixel, or one
    for all. Zero where the label is IGNORE and in rows that were never estimated.
    """
    classes = logits.shape[1]
    known = labels != IGNORE
    row = torch.where(known, labels, 0) + classes * domain
    column = torch.arange(classes, device=logits.device)[:, None, None]
    place = grid.position(logits)
    left = place.long().clamp_max_(grid.BINS - 2)
    cell = (row[:, None] * classes + column) * grid.BINS + left
    flat = torch.cat([each.table for each in domains])
    moved = torch.lerp(flat.take(cell), flat.take(cell + 1), place.sub_(left))
    active = known & torch.cat([each.active for each in domains])[row]
    return torch.where(active[:, None], moved.sub_(logits), 0.0)


def balanced(logits: Tensor, delta: Tensor, tau: float) -> Tensor:
    """z - tau * Delta_y(z): an under-predicted class must win by more (METHOD 4)."""
    return logits - tau * delta
