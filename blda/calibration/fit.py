"""Statistics fitted to a whole data set's logits, and the bias of calibrated predictions sampled from them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch import distributed as dist

from blda.balance import logit_grid
from blda.balance.gaussian_mixture import cdf
from blda.balance.logit_statistics import LogitStatistics
from blda.calibration.calibration_file import Calibration

STABLE = 1e-3
"""Mixtures are fitted when a pass moves no distribution function by more than this."""
DRAWS = 2**16
"""Logit vectors drawn to estimate a bias, over all rows."""


@torch.no_grad()
def estimated(
    batches: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
    components: int = 5,
    min_pixels: int = 100,
    passes: int = 20,
    device: torch.device | str = "cpu",
) -> LogitStatistics:
    """Statistics of all (logits, labels) batches together: evidence is pooled, then the mixtures are fitted to it.

    batches: logits (B, C, H, W) and labels (B, H, W), IGNORE counts nothing; with several processes, this one's share.
    passes: at most so many times EM_ITERATIONS, fewer when the fit is stable before.
    """
    statistics = LogitStatistics(num_classes, components, momentum=0.0, min_pixels=min_pixels).to(device)
    counts = torch.zeros(num_classes, num_classes, logit_grid.BINS, dtype=torch.float64, device=device)
    for logits, labels in batches:
        counts += statistics.histogram(logits, labels)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(counts)
    nodes = logit_grid.nodes(counts.device)
    for _ in range(passes):
        before = cdf(statistics.mixture, nodes)
        statistics.fit(counts)
        if (cdf(statistics.mixture, nodes) - before).abs().max() <= STABLE:
            break
    return statistics


@torch.no_grad()
def sampled_bias(statistics: LogitStatistics, calibration: Calibration, seed: int = 0) -> Tensor:
    """Bias of calibrated predictions, without labels: (C,) (METHOD 1).

    The C logits of a row are drawn independently from its mixtures and predicted; rows never estimated do not enter.
    """
    num_classes = statistics.num_classes
    rows = statistics.estimated[:num_classes].nonzero().flatten().tolist()
    shares = torch.zeros(num_classes, dtype=torch.float64, device=statistics.means.device)
    generator = torch.Generator().manual_seed(seed)
    draws = max(DRAWS // num_classes, 256)
    for row in rows:
        weights, means, variances = (part[row].cpu() for part in statistics.mixture)
        component = torch.multinomial(weights, draws, replacement=True, generator=generator)
        noise = torch.randn(component.shape, generator=generator)
        logits = means.gather(1, component) + variances.gather(1, component).sqrt() * noise
        winner = calibration(logits.t().to(shares.device)).argmax(1)
        shares += torch.bincount(winner, minlength=num_classes) / draws
    return shares / max(len(rows), 1) - 1 / num_classes if rows else shares
