"""The calibration that is exported computes the scores of `Calibration`."""

from __future__ import annotations

import pytest
import torch

from blda.balance import logit_grid
from blda.balance.alignment import Alignment
from blda.calibration.calibration_file import Calibration
from blda.deploy.exportable_calibration import ExportableCalibration, position


def _calibration(classes: int, tau: float) -> Calibration:
    """A random calibration with monotone rows; its class 1 is not corrected."""
    g = torch.Generator().manual_seed(classes)
    steps = torch.rand(classes, classes, logit_grid.BINS, generator=g)
    lookup = 12 * steps.cumsum(-1) / steps.sum(-1, keepdim=True) - 4
    active = torch.arange(classes) != 1
    return Calibration(Alignment(lookup, active), tau, tuple(f"class {i}" for i in range(classes)))


@pytest.mark.parametrize("tau", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(2, 5, 9, 14), (3, 19, 4, 4), (6, 3), (2, 1, 8, 8)])
def test_scores_are_those_of_the_calibration(shape, tau):
    calibration = _calibration(shape[1], tau)
    logits = 6 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    logits[0, 0], logits[-1, -1] = 400.0, -400.0  # beyond the grid, and where exponentials overflow
    torch.testing.assert_close(ExportableCalibration(calibration)(logits), calibration(logits), atol=2e-4, rtol=1e-5)


def test_positions_are_those_of_the_grid():
    octaves = torch.ldexp(torch.ones(9), torch.arange(9)) - 1
    near = torch.cat([octaves * (1 + 1e-6), octaves, octaves * (1 - 1e-6), torch.linspace(-300, 300, 4001)])
    logits = torch.cat([near, -near, logit_grid.nodes()])
    torch.testing.assert_close(position(logits), logit_grid.position(logits), atol=2e-3, rtol=0)
    torch.testing.assert_close(position(logit_grid.nodes()), torch.arange(float(logit_grid.BINS)), atol=2e-4, rtol=0)
