"""One-dimensional Gaussian mixtures: fitting, cumulative distribution function and its inverse.

Every function is pure and works on any leading axes. METHOD n is section n of docs/method.md.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

MIN_VARIANCE = 1e-4
"""Floor of every component's variance (METHOD 3)."""

BACKGROUND = 1e-7
"""Density added to that of every component, from the reference code: no component dies, and distant values count."""


class Mixture(NamedTuple):
    """Mixtures of K Gaussians with any leading axes; each field is (..., K), and `weights` sums to one."""

    weights: Tensor
    means: Tensor
    variances: Tensor


def em_step(mixture: Mixture, values: Tensor, counts: Tensor) -> Mixture:
    """Run one iteration of expectation-maximisation on weighted values (METHOD 3).

    values: logits, (..., N), broadcast against `counts`.
    counts: number of observations of each value, (..., N), >= 0.

    The responsibility of component k is w_k N(z; m_k, v_k) + BACKGROUND, divided by its sum over all components. A cell
    without observations keeps its parameters.
    """
    tiny = torch.finfo(mixture.means.dtype).tiny
    # Second moments are about the cell's mean: about zero they would cancel in float32 when logits are large.
    centre = (mixture.weights * mixture.means).sum(-1, keepdim=True)
    values = values - centre
    joint = _density(mixture._replace(means=mixture.means - centre), values).mul_(mixture.weights[..., None, :])
    joint = joint.add_(BACKGROUND)
    responsibility = joint.mul_((counts.to(joint.dtype) / joint.sum(-1))[..., None])
    mass, first, second = (torch.stack((torch.ones_like(values), values, values.square()), -2) @ responsibility).unbind(
        -2
    )
    total = mass.sum(-1, keepdim=True)
    observed, mass = total > 0, mass.clamp_min(tiny)
    means = first / mass
    variances = (second / mass - means.square()).clamp_min(MIN_VARIANCE)
    return Mixture(
        torch.where(observed, mass / total.clamp_min(tiny), mixture.weights),
        torch.where(observed, means + centre, mixture.means),
        torch.where(observed, variances, mixture.variances),
    )


def cdf(mixture: Mixture, values: Tensor) -> Tensor:
    """Compute F(z) = sum_k w_k Phi((z - m_k) / sqrt(v_k)) at values (..., N): (..., N) (METHOD 2)."""
    # Components are added one by one, which takes K times less memory than a temporary (..., N, K).
    total = torch.zeros((), dtype=values.dtype, device=values.device)
    for k in range(mixture.weights.shape[-1]):
        weight, mean, variance = (field[..., k, None] for field in mixture)
        total = total + weight * torch.special.ndtr((values - mean) * variance.rsqrt())
    return total


def quantile(mixture: Mixture, probability: Tensor) -> Tensor:
    """Compute F^-1(p) of mixtures (M, K) at probabilities (M, N) in (0, 1), by interpolating the tabulated F."""
    levels, cdf_values = tabulated(mixture)
    right = torch.searchsorted(cdf_values, probability.contiguous()).clamp(1, levels.shape[-1] - 1)
    below, above = cdf_values.gather(-1, right - 1), cdf_values.gather(-1, right)
    fraction = ((probability - below) / (above - below).clamp_min(1e-12)).clamp(0, 1)
    return torch.lerp(levels.gather(-1, right - 1), levels.gather(-1, right), fraction)


def tabulated(mixture: Mixture, points: int = 8192) -> tuple[Tensor, Tensor]:
    """Tabulate F of mixtures (M, K): values (M, points), and F at these values (M, points).

    The values span eight standard deviations around every component. The error of interpolated quantiles is far below
    the spacing of the values.
    """
    deviation = mixture.variances.sqrt()
    low = (mixture.means - 8 * deviation).amin(-1, keepdim=True)
    high = (mixture.means + 8 * deviation).amax(-1, keepdim=True)
    levels = low + (high - low) * torch.linspace(0, 1, points, dtype=low.dtype, device=low.device)
    return levels, cdf(mixture, levels).contiguous()


def _density(mixture: Mixture, values: Tensor) -> Tensor:
    """Compute N(z; m_k, v_k) at values (..., N): (..., N, K), a new tensor."""
    precision = (-0.5 / mixture.variances)[..., None, :]
    peak = (2 * math.pi * mixture.variances).rsqrt()[..., None, :]
    distance = values[..., None] - mixture.means[..., None, :]
    return distance.square_().mul_(precision).exp_().mul_(peak)
