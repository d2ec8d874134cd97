"""Parity of BLDA's losses and statistics over four steps with values recorded from its published code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from blda.balance import logit_grid
from blda.balance.balanced_criterion import BalancedCriterion
from blda.balance.gaussian_mixture import Mixture, cdf, em_step
from blda.balance.logit_statistics import LogitStatistics
from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import IGNORE, Sample

SETTINGS = {"num_classes": 19, "components": 5, "momentum": 0.99, "warmup": 1500, "min_pixels": 100}
PERMUTATION = [4, 1, 7, 5, 3, 9, 0, 8, 6, 2]
"""Result of `torch.randperm(10)` after `manual_seed(0)` in the torch version that recorded the values."""

Golden = dict[str, Tensor]


class SampledNegatives(LogitStatistics):
    """Statistics whose negative anchor is fitted to a sample of the negative logits, as in the published code.

    The sample has as many logits as there are positive ones, and is drawn as for the recorded values.
    """

    def update(self, logits: Tensor, labels: Tensor, pseudo: PseudoLabels | None = None) -> None:
        past = self.momentum * min(self.updates.item() / self.warmup, 1)
        old = Mixture(*(field[1].clone() for field in self.anchors))
        super().update(logits, labels, pseudo)
        spare = torch.where(labels == IGNORE, self.num_classes, labels)
        positive = F.one_hot(spare, self.num_classes + 1)[..., : self.num_classes].movedim(-1, 1).bool()
        negative = logits[~positive & (labels != IGNORE)[:, None]]
        count = int(positive.sum())
        torch.randperm(count)  # the published code also shuffles the positive logits
        sample = negative[torch.randperm(len(negative))[:count]]
        new = old
        for _ in range(3):
            new = em_step(new, sample, torch.ones_like(sample))
        for kept, a, b in zip(self.anchors, old, new, strict=True):
            kept[1] = past * a + (1 - past) * b


@pytest.fixture(scope="module")
def recorded(shared) -> Golden:
    with np.load(shared / "golden" / "blda_sequence.npz") as file:
        return {key: torch.as_tensor(file[key]) for key in file.files}


def criterion(recorded: Golden, kind: type[LogitStatistics]) -> BalancedCriterion:
    source, target = kind(**SETTINGS), LogitStatistics(**SETTINGS)
    source.means.copy_(recorded["source_start"])
    source.anchor_means.copy_(recorded["anchor_start"])
    target.means.copy_(recorded["target_start"])
    return BalancedCriterion(source, target, tau=0.1)


def losses(balanced: BalancedCriterion, recorded: Golden) -> tuple[Tensor, Tensor, Tensor]:
    """Return four source losses, four mixed losses, and the gradient of the last mixed loss."""
    source, mixed = [], []
    for step in range(4):
        label = recorded["source_label"][step].long()
        sample = Sample(torch.empty(len(label), 3, 0, 0), label, ("a", "b"), (0, 1))
        source.append(balanced.source_loss(recorded["source_logits"][step].float(), sample))
        label, weight = recorded["mixed_label"][step].long(), recorded["mixed_weight"][step]
        logits = recorded["mixed_logits"][step].float().requires_grad_()
        batch = Mixed(sample.image, label, weight, recorded["from_source"][step])
        mixed.append(balanced.mixed_loss(logits, batch, PseudoLabels(label, weight)))
    mixed[-1].backward()
    return torch.stack(source), torch.stack(mixed).detach(), logits.grad


def largest_distance(own: Mixture, other: Mixture) -> float:
    """Return the largest difference between the distribution functions of two mixtures."""
    nodes = logit_grid.nodes(own.means.device)
    return (cdf(own, nodes) - cdf(other, nodes)).abs().max().item()


def mixture(recorded: Golden, name: str) -> Mixture:
    return Mixture(*(recorded[f"{name}_{field}"] for field in Mixture._fields))


def test_losses_with_the_recorded_sample_equal_the_recorded_ones(recorded):
    torch.manual_seed(0)
    if torch.randperm(10).tolist() != PERMUTATION:
        pytest.skip("this version of torch draws other permutations than the one that recorded the values")
    torch.manual_seed(0)
    balanced = criterion(recorded, SampledNegatives)
    source, mixed, gradient = losses(balanced, recorded)
    torch.testing.assert_close(source, recorded["source_loss"], atol=2e-3, rtol=0)
    torch.testing.assert_close(mixed, recorded["mixed_loss"], atol=2e-3, rtol=0)
    expected = recorded["mixed_gradient"].float()
    torch.testing.assert_close(gradient, expected, atol=5e-3 * expected.abs().max().item(), rtol=0)
    assert largest_distance(balanced.source_statistics.anchors, mixture(recorded, "anchor")) < 5e-3


def test_losses_with_all_negatives_are_within_the_noise_of_sampling(recorded):
    """The library counts all negative logits; sampling them changes the recorded losses by about 3e-3."""
    source, mixed, _ = losses(criterion(recorded, LogitStatistics), recorded)
    torch.testing.assert_close(source, recorded["source_loss"], atol=6e-3, rtol=0)
    torch.testing.assert_close(mixed, recorded["mixed_loss"], atol=6e-3, rtol=0)


def test_mixtures_at_the_end_are_the_recorded_ones(recorded):
    balanced = criterion(recorded, LogitStatistics)
    losses(balanced, recorded)
    assert largest_distance(balanced.source_statistics.mixture, mixture(recorded, "source")) < 5e-3
    assert largest_distance(balanced.target_statistics.mixture, mixture(recorded, "target")) < 5e-3
