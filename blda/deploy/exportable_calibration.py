"""Calibration in operations that export formats know."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from blda.balance.logit_grid import BINS, LIMIT, MIDDLE, PER_OCTAVE
from blda.calibration.calibration_file import Calibration


class ExportableCalibration(nn.Module):
    """A `Calibration` as a module that can be traced: logits (B, C, H, W) or (B, C) -> scores of the same shape.

    `blda.calibration.scores` reads the bits of floats, splits pixels into chunks and writes in place, none of which
    exports. This module computes the same scores of finite logits in plain arithmetic, to rounding.
    """

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        lookup, active = calibration.alignment
        self.tau = calibration.tau
        # (channel, bin, candidate): what one channel of a pixel corrects for all candidates is one row.
        rows = self.tau * lookup.detach().cpu().float().permute(1, 2, 0)
        self.register_buffer("rows", rows.contiguous())
        self.register_buffer("slopes", rows.diff(dim=1))
        self.register_buffer("active", active.detach().cpu().bool())

    def forward(self, logits: Tensor) -> Tensor:
        plain = logits.log_softmax(1)
        if self.tau == 0:
            return plain
        place = position(logits)
        left = place.floor().clamp(0, BINS - 2)
        share, index = (place - left)[..., None], left.long()
        own, total = [], None
        for channel in range(logits.shape[1]):
            here, slope = (embedding(index[:, channel], table[channel]) for table in (self.rows, self.slopes))
            corrected = (1 - self.tau) * logits[:, channel, ..., None] + (here + share[:, channel] * slope)
            own.append(corrected[..., channel])
            total = corrected if total is None else _logaddexp(total, corrected)
        scores = torch.stack(own, 1) - total.movedim(-1, 1)
        return torch.where(self.active.view(-1, *[1] * (logits.ndim - 2)), scores, plain)


def position(logits: Tensor) -> Tensor:
    """Compute the position of finite logits on the grid, as `blda.balance.logit_grid.position` does from their bits."""
    size = logits.abs().clamp(max=LIMIT) + 1
    # At a power of two, a logarithm that rounds to the other octave gives the same position: it is continuous there.
    octave = size.log2().floor()
    return MIDDLE + logits.sign() * PER_OCTAVE * (octave + size * torch.exp2(-octave) - 1)


def _logaddexp(first: Tensor, second: Tensor) -> Tensor:
    """Compute log(exp(first) + exp(second)) without overflow, which ONNX's own translation does not avoid."""
    return torch.maximum(first, second) + (-(first - second).abs()).exp().log1p()
