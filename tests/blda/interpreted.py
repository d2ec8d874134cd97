"""Compares the Triton kernels, interpreted on the CPU, with the CPU's own; run by test_kernels.py."""

import torch

from blda import pixels
from blda.balance import stacked
from blda.data.sample import IGNORE
from blda.kernels import cpu, cuda
from test_kernels import SHAPES, _batch, _domains

for shape in SHAPES.values():
    logits, labels, weight = _batch(shape)
    domain = torch.randint(2, labels.shape)
    row, shares = torch.where(labels == IGNORE, -1, labels), (weight * 1000).long()
    arrays = pixels.flat_logits(logits), pixels.flat_map(row), pixels.flat_map(shares)
    assert torch.equal(cpu.count(*arrays), cuda.count(*arrays)), shape
    rows = pixels.flat_map(torch.where(row < 0, -1, row + shape[1] * domain))
    arguments = arrays[0], rows, pixels.flat_map(weight), *stacked(_domains(shape[1])), 0.1
    for own, other in zip(cpu.loss_and_gradient(*arguments), cuda.loss_and_gradient(*arguments), strict=True):
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-5)
