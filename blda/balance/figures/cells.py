"""Logit statistics as what is drawn and printed of them: medians, corrections, densities, bias."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blda.balance.alignment import CLIP
from blda.balance.gaussian_mixture import Mixture, cdf, quantile
from blda.balance.logit_statistics import LogitStatistics

POSITIVE, NEGATIVE = 0, 1
"""The anchors: of a logit where its class is the label, and where another is."""

_HALVINGS = 40


@dataclass(frozen=True)
class Cells:
    """One domain, on the CPU.

    mixture: (C, C, K), cell (c, l) is logit l over the pixels labelled c. anchors: (2, K). estimated (C,) and
    anchored (2,): bool, what was ever estimated. quantiles (C, C, 3) and anchor_quantiles (2, 3): at CLIP, 1/2 and
    1 - CLIP; nan where never estimated. bias: (C,), estimated without labels, nan while no row is. updates: so far.
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
        """(C, C)."""
        return self.quantiles[..., 1]

    def density(self, label: int, channel: int, edges: Tensor) -> Tensor:
        """Density of one cell between neighbouring `edges` (N + 1,): (N,), nan in a row never estimated."""
        return torch.where(self.estimated[label], _density(_part(self.mixture, (label, channel)), edges), torch.nan)

    def class_density(self, channel: int, anchor: int, edges: Tensor) -> Tensor:
        """Density of a class's logit, (N,): POSITIVE over its own pixels, NEGATIVE over those of the others, each class
        alike. nan where no such row was estimated."""
        return _density(_part(self.mixture, (self.labels(channel, anchor), channel)), edges).mean(0)

    def anchor_density(self, anchor: int, edges: Tensor) -> Tensor:
        """Density of an anchor, (N,); nan if it was never estimated."""
        return torch.where(self.anchored[anchor], _density(_part(self.anchors, anchor), edges), torch.nan)

    def labels(self, channel: int, anchor: int) -> Tensor:
        """The rows that describe a logit on one side, those never estimated left out: (C,) bool."""
        own = torch.arange(len(self.estimated)) == channel
        return self.estimated & (own if anchor == POSITIVE else ~own)


@torch.no_grad()
def cells(statistics: LogitStatistics) -> Cells:
    """What a domain's statistics hold now."""
    mixture, anchors = (
        Mixture(*(field.float().cpu() for field in each)) for each in (statistics.mixture, statistics.anchors)
    )
    estimated, anchored = statistics.estimated.cpu().split((statistics.num_classes, 2))
    quantiles = torch.where(estimated[:, None, None], _quantiles(mixture), torch.nan)
    anchor_quantiles = torch.where(anchored[:, None], _quantiles(anchors), torch.nan)
    bias = torch.where(estimated.any(), statistics.bias().float().cpu(), torch.nan)
    return Cells(mixture, anchors, estimated, anchored, quantiles, anchor_quantiles, bias, int(statistics.updates))


def median_correction(domain: Cells, source: Cells) -> Tensor:
    """Delta_cl at the median of every cell of a domain: (C, C), nan where it is not known (METHOD 2).

    At its median a cell has F = 1/2, so Delta is the anchor's median less the cell's.
    """
    own = torch.eye(len(domain.estimated), dtype=torch.bool)
    positive, negative = source.anchor_quantiles[:, 1]
    return torch.where(own, positive, negative) - domain.median


def correction(domain: Cells, source: Cells, label: int, channel: int, values: Tensor) -> Tensor:
    """Delta_cl(z) of one cell at `values` (N,): (N,), nan where it is not known (METHOD 2)."""
    anchor = POSITIVE if label == channel else NEGATIVE
    cdf_values = cdf(_part(domain.mixture, (label, channel)), values).clamp(CLIP, 1 - CLIP)
    moved = quantile(_part(source.anchors, [anchor]), cdf_values[None])[0] - values
    return torch.where(domain.estimated[label] & source.anchored[anchor], moved, torch.nan)


def _quantiles(mixture: Mixture) -> Tensor:
    """Of mixtures (..., K) at CLIP, 1/2 and 1 - CLIP: (..., 3), by bisection, which is cheap where they are so few."""
    deviation, wanted = mixture.variances.sqrt(), torch.tensor((CLIP, 0.5, 1 - CLIP))
    low = (mixture.means - 8 * deviation).amin(-1, keepdim=True).expand(*deviation.shape[:-1], 3)
    high = (mixture.means + 8 * deviation).amax(-1, keepdim=True).expand_as(low)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        below = cdf(mixture, middle) < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def _density(mixture: Mixture, edges: Tensor) -> Tensor:
    """Mean density of mixtures (..., K) between neighbouring edges (N + 1,): (..., N); no peak falls between them."""
    return cdf(mixture, edges).diff() / edges.diff()


def _part(mixture: Mixture, index: object) -> Mixture:
    return Mixture(*(field[index] for field in mixture))
