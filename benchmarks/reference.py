"""Direct evaluation of the method, pixel by pixel in float64: slow, and independent of the library's look-up."""

from __future__ import annotations

import torch
from torch import Tensor

IGNORE = 255


def cdf(weights: Tensor, means: Tensor, variances: Tensor, values: Tensor) -> Tensor:
    """F(z) of mixtures (..., K) at values (...)."""
    return (weights * torch.special.ndtr((values[..., None] - means) / variances.sqrt())).sum(-1)


def quantile(weights: Tensor, means: Tensor, variances: Tensor, probability: Tensor) -> Tensor:
    """F^-1 of one mixture (K,) by bisection."""
    reach = 12 * variances.sqrt().max() + means.abs().max()
    low, high = torch.full_like(probability, -reach), torch.full_like(probability, reach)
    for _ in range(80):
        middle = (low + high) / 2
        below = cdf(weights, means, variances, middle) < probability
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def correction(logits: Tensor, labels: Tensor, mixture: tuple, anchors: tuple, clip: float = 0.01) -> Tensor:
    """Delta_y(z) of METHOD 2: (B, C, H, W)."""
    classes = logits.shape[1]
    known = labels != IGNORE
    row = torch.where(known, labels, 0)
    z = logits.double().permute(0, 2, 3, 1)
    own = [part.double()[row] for part in mixture]
    height = cdf(*own, z).clamp(clip, 1 - clip)
    positive = quantile(*(part.double()[0] for part in anchors), height)
    negative = quantile(*(part.double()[1] for part in anchors), height)
    is_own = torch.nn.functional.one_hot(row, classes).bool()
    delta = torch.where(is_own, positive, negative) - z
    return torch.where(known[..., None], delta, 0.0).permute(0, 3, 1, 2)


def positive_cdf(logits: Tensor, labels: Tensor, mixture: tuple) -> Tensor:
    """F_yy(z_y) of METHOD 5: (B, H, W)."""
    row = torch.where(labels == IGNORE, 0, labels)
    own = (part.double()[row, row] for part in mixture)
    height = cdf(*own, logits.double().gather(1, row[:, None])[:, 0])
    return torch.where(labels == IGNORE, 0.0, height)


def em_step(weights: Tensor, means: Tensor, variances: Tensor, data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One iteration of EM on data (..., N), every component with a background density of 1e-7."""
    weights, means, variances, data = (part.double() for part in (weights, means, variances, data))
    density = torch.distributions.Normal(means[..., None, :], variances.sqrt()[..., None, :])
    joint = weights[..., None, :] * density.log_prob(data[..., None]).exp() + 1e-7
    share = joint / joint.sum(-1, keepdim=True)
    mass = share.sum(-2)
    new_means = (share * data[..., None]).sum(-2) / mass
    spread = (share * (data[..., None] - new_means[..., None, :]) ** 2).sum(-2) / mass
    return mass / mass.sum(-1, keepdim=True), new_means, spread.clamp_min(1e-4)
