"""Statistics fitted to the logits of a whole data set, and the bias of calibrated predictions estimated from them."""

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
"""The fit ends when a pass changes no distribution function by more than this."""
SAMPLES = 2**16
"""Number of logit vectors sampled to estimate a bias, over all rows."""


@torch.no_grad()
def fit_statistics(
    batches: Iterable[tuple[Tensor, Tensor]],
    num_classes: int,
    components: int = 5,
    min_pixels: int = 100,
    passes: int = 20,
    device: torch.device | str = "cpu",
) -> LogitStatistics:
    """Fit statistics to all batches together: sum their histograms, then fit the mixtures to the sum.

    batches: pairs of logits (B, C, H, W) and labels (B, H, W); pixels labelled IGNORE are not counted. With several
        processes, each gives its share.
    num_classes: number of classes C.
    components: Gaussians of each mixture.
    min_pixels: a class with fewer pixels is not estimated.
    passes: largest number of passes of EM_ITERATIONS; the fit ends earlier when it is `STABLE`.
    device: device of the statistics.
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
    """Estimate the bias of calibrated predictions without labels: (C,) (METHOD 1).

    Sample the C logits of each row independently from its mixtures, and count the predicted classes. Rows that were
    never estimated are left out; the result is zero if there is no other.
    """
    num_classes = statistics.num_classes
    rows = statistics.estimated[:num_classes].nonzero().flatten().tolist()
    shares = torch.zeros(num_classes, dtype=torch.float64, device=statistics.means.device)
    generator = torch.Generator().manual_seed(seed)
    samples = max(SAMPLES // num_classes, 256)
    for row in rows:
        weights, means, variances = (field[row].cpu() for field in statistics.mixture)
        component = torch.multinomial(weights, samples, replacement=True, generator=generator)
        noise = torch.randn(component.shape, generator=generator)
        logits = means.gather(1, component) + variances.gather(1, component).sqrt() * noise
        winner = calibration(logits.t().to(shares.device)).argmax(1)
        shares += torch.bincount(winner, minlength=num_classes) / samples
    return shares / max(len(rows), 1) - 1 / num_classes if rows else shares
