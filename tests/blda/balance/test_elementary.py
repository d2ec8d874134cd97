"""Elementary functions of the CPU kernels, compared with double precision."""

import numpy as np
import pytest
import torch

numba = pytest.importorskip("numba")

from blda.balance.kernels import elementary  # noqa: E402


def _over(function):
    """Apply a function to an array, by a loop whose operations may be reordered as in the kernels."""

    @numba.njit(error_model="numpy", fastmath={"contract", "reassoc", "nsz", "arcp"})
    def loop(values, results):
        for i in range(len(values)):
            results[i] = function(values[i])

    def whole(values: np.ndarray) -> np.ndarray:
        results = np.empty_like(values)
        loop(values, results)
        return results

    return whole


def test_exp_is_accurate_to_the_last_digits_and_keeps_nan():
    values = np.linspace(-87, 0, 400_001).astype(np.float32)
    result = _over(elementary.exp)(values)
    assert np.abs(result / np.exp(values.astype(np.float64)) - 1).max() < 2e-7
    nan, low, lower, zero = _over(elementary.exp)(np.array([np.nan, -1e30, -np.inf, 0], np.float32))
    assert np.isnan(nan)
    assert 0 <= low == lower < 1e-37
    assert zero == 1


def test_normal_cdf_is_accurate_to_the_last_digits():
    values = np.concatenate((np.linspace(-12, 12, 400_001), [-np.inf, np.inf, 0])).astype(np.float32)
    result = _over(elementary.normal_cdf)(values)
    expected = torch.special.ndtr(torch.from_numpy(values).double()).numpy()
    assert np.abs(result - expected).max() < 4e-7
