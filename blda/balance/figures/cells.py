"""Numbers of logit statistics for figures and reports: medians, corrections, densities and bias."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blda.balance.alignment import CLIP
from blda.balance.gaussian_mixture import Mixture, cdf, quantile
from blda.balance.logit_statistics import LogitStatistics

POSITIVE, NEGATIVE = 0, 1
"""Indices of the anchors: of logits of the labelled class (positive), and of the other classes (negative)."""

_HALVINGS = 40


@dataclass(frozen=True)
class Cells:
    """Statistics of one domain, on the CPU.

    mixture: class mixtures, (C, C, K); cell (c, l) describes logit l over the pixels labelled c.
    anchors: anchor mixtures, (2, K).
    estimated, anchored: rows (C,) and anchors (2,) that were ever estimated, bool.
    quantiles, anchor_quantiles: quantiles at CLIP, 1/2 and 1 - CLIP, (C, C, 3) and (2, 3); nan if never estimated.
    bias: bias estimated without labels, (C,); nan while no row is estimated.
    updates: number of updates so far.
    """

    mixture: Mixture
    anchors: Mixture
    estimated: Tensor
    anchored: Tensor
    quantiles: Tensor
    anchor_quantiles: Tensor
    bias: Tensor
    updates: int

    @property
    def median(self) -> Tensor:
        """Medians of all cells, (C, C)."""
        return self.quantiles[..., 1]

    def density(self, label: int, channel: int, edges: Tensor) -> Tensor:
        """Return the density of one cell between neighbouring `edges` (N + 1,): (N,), nan in rows never estimated."""
        return torch.where(self.estimated[label], _density(_select(self.mixture, (label, channel)), edges), torch.nan)

    def class_density(self, channel: int, anchor: int, edges: Tensor) -> Tensor:
        """Return the density of a class's logit between neighbouring `edges`, (N,); nan if no row was estimated.

        anchor: POSITIVE for pixels of the class itself, NEGATIVE for pixels of the others, all classes with equal
            weight.
        """
        return _density(_select(self.mixture, (self.labels(channel, anchor), channel)), edges).mean(0)

    def anchor_density(self, anchor: int, edges: Tensor) -> Tensor:
        """Return the density of an anchor between neighbouring `edges`, (N,); nan if it was never estimated."""
        return torch.where(self.anchored[anchor], _density(_select(self.anchors, anchor), edges), torch.nan)

    def labels(self, channel: int, anchor: int) -> Tensor:
        """Find the estimated rows of a logit's positive or negative cells: (C,) bool."""
        own = torch.arange(len(self.estimated)) == channel
        return self.estimated & (own if anchor == POSITIVE else ~own)


@torch.no_grad()
def cells(statistics: LogitStatistics) -> Cells:
    """Copy the statistics of a domain to the CPU, with their quantiles and bias."""
    mixture, anchors = (
        Mixture(*(field.float().cpu() for field in fields)) for fields in (statistics.mixture, statistics.anchors)
    )
    estimated, anchored = statistics.estimated.cpu().split((statistics.num_classes, 2))
    quantiles = torch.where(estimated[:, None, None], _quantiles(mixture), torch.nan)
    anchor_quantiles = torch.where(anchored[:, None], _quantiles(anchors), torch.nan)
    bias = torch.where(estimated.any(), statistics.bias().float().cpu(), torch.nan)
    return Cells(mixture, anchors, estimated, anchored, quantiles, anchor_quantiles, bias, int(statistics.updates))


def median_correction(domain: Cells, source: Cells) -> Tensor:
    """Compute Delta_cl at the median of every cell of a domain: (C, C), nan if never estimated (METHOD 2).

    F is 1/2 at the median, so Delta is the anchor's median minus the cell's.
    """
    own = torch.eye(len(domain.estimated), dtype=torch.bool)
    positive, negative = source.anchor_quantiles[:, 1]
    return torch.where(own, positive, negative) - domain.median


def correction(domain: Cells, source: Cells, label: int, channel: int, values: Tensor) -> Tensor:
    """Compute Delta_cl(z) of one cell at `values` (N,): (N,), nan if never estimated (METHOD 2)."""
    anchor = POSITIVE if label == channel else NEGATIVE
    cdf_values = cdf(_select(domain.mixture, (label, channel)), values).clamp(CLIP, 1 - CLIP)
    delta = quantile(_select(source.anchors, [anchor]), cdf_values[None])[0] - values
    return torch.where(domain.estimated[label] & source.anchored[anchor], delta, torch.nan)


def _quantiles(mixture: Mixture) -> Tensor:
    """Compute the quantiles of mixtures (..., K) at CLIP, 1/2 and 1 - CLIP by bisection: (..., 3)."""
    deviation, probability = mixture.variances.sqrt(), torch.tensor((CLIP, 0.5, 1 - CLIP))
    low = (mixture.means - 8 * deviation).amin(-1, keepdim=True).expand(*deviation.shape[:-1], 3)
    high = (mixture.means + 8 * deviation).amax(-1, keepdim=True).expand_as(low)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = cdf(mixture, middle) < probability
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def _density(mixture: Mixture, edges: Tensor) -> Tensor:
    """Compute the mean density of mixtures (..., K) between neighbouring edges (N + 1,): (..., N).

    Unlike density values at points, means over intervals miss no narrow peak.
    """
    return cdf(mixture, edges).diff() / edges.diff()


def _select(mixture: Mixture, index: object) -> Mixture:
    """Index the leading axes of all fields of a mixture."""
    return Mixture(*(field[index] for field in mixture))
