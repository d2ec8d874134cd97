"""Gaussian mixtures: EM, distribution function and quantiles."""

import numpy as np
import pytest
import torch

from blda.balance.gaussian_mixture import MIN_VARIANCE, Mixture, cdf, em_step, quantile


@pytest.mark.parametrize("name", ["c5", "c19"])
def test_em_equals_golden_values(shared, name):
    golden = {k: torch.as_tensor(v) for k, v in np.load(shared / f"golden/blda_reference_{name}.npz").items()}
    mixture = Mixture(golden["em_weights0"], golden["em_means0"], golden["em_variances0"])
    for _ in range(3):
        mixture = em_step(mixture, golden["em_data"], torch.ones_like(golden["em_data"]))
    for own, field in zip(mixture, Mixture._fields, strict=True):
        torch.testing.assert_close(own, golden[f"em_{field}3"], atol=1e-4, rtol=0)


def _mixture(cells: int = 3, seed: int = 0) -> Mixture:
    g = torch.Generator().manual_seed(seed)
    weights = torch.rand(cells, 5, generator=g) + 0.1
    means, variances = 3 * torch.randn(cells, 5, generator=g), torch.rand(cells, 5, generator=g) + 0.05
    return Mixture(weights / weights.sum(-1, keepdim=True), means, variances)


def test_counts_equal_repeated_values():
    values = torch.linspace(-4, 4, 9).expand(3, -1)
    counts = torch.arange(9.0).expand(3, -1)
    repeated = torch.repeat_interleave(values[0], counts[0].long()).expand(3, -1)
    weighted = em_step(_mixture(), values, counts)
    plain = em_step(_mixture(), repeated, torch.ones_like(repeated))
    for a, b in zip(weighted, plain, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_em_never_lowers_the_likelihood():
    data = torch.cat((torch.randn(300) - 3, 0.5 * torch.randn(500) + 2))[None]
    mixture = Mixture(torch.full((1, 2), 0.5), torch.tensor([[-1.0, 1.0]]), torch.ones(1, 2))

    def likelihood(m):
        normal = torch.distributions.Normal(m.means[0], m.variances[0].sqrt())
        return torch.logsumexp(normal.log_prob(data[0, :, None]) + m.weights[0].log(), -1).sum()

    before = likelihood(mixture)
    for _ in range(20):
        mixture = em_step(mixture, data, torch.ones_like(data))
        after = likelihood(mixture)
        assert after >= before - 0.05
        before = after
    torch.testing.assert_close(mixture.means.sort().values, torch.tensor([[-3.0, 2.0]]), atol=0.2, rtol=0)


def test_a_cell_without_observations_keeps_its_parameters():
    mixture = _mixture()
    kept = em_step(mixture, torch.zeros(4), torch.zeros(3, 4))
    assert all(torch.equal(a, b) for a, b in zip(mixture, kept, strict=True))


def test_constant_logits_reach_the_variance_floor_without_nan():
    mixture = _mixture()
    for _ in range(5):
        mixture = em_step(mixture, torch.full((8,), 1e2), torch.ones(3, 8))
    assert all(field.isfinite().all() for field in mixture)
    assert mixture.variances.min() == MIN_VARIANCE


def test_quantile_inverts_cdf():
    mixture = _mixture(4)
    p = torch.linspace(0.01, 0.99, 99).expand(4, -1)
    torch.testing.assert_close(cdf(mixture, quantile(mixture, p)), p, atol=1e-4, rtol=0)
