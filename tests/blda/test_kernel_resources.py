"""The Triton kernels compile for every GPU in use, without one, and stay small enough to keep it busy."""

from importlib.util import find_spec

import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

import ahead_of_time
from blda.grid import BINS
from blda.kernels import cuda

CAPABILITIES = [75, 80, 86, 89, 90, 100, 120]

MOST_REGISTERS = 96
"""Of a thread: 640 threads then share a multiprocessor, enough to wait for gathers side by side."""


def _work(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """The launches of one step, by tensors that need not hold anything."""
    logits, (batch, classes, pixels) = torch.zeros(shape, dtype=dtype), shape
    row, units, weight = (torch.zeros(batch, pixels, dtype=kind) for kind in (torch.int64, torch.int64, torch.float32))
    table, active = torch.empty(2 * classes, classes, BINS), torch.zeros(2 * classes, dtype=torch.bool)
    cuda.count(logits, row, units)
    cuda.loss_and_gradient(logits, row, weight, table, active, 0.1)


def _check(shape: tuple[int, ...], dtype: torch.dtype, capability: int, monkeypatch) -> None:
    if not ahead_of_time.knows(capability):
        pytest.skip(f"the assembler of this triton does not know sm_{capability}")
    found = ahead_of_time.launches(cuda, lambda: _work(shape, dtype), monkeypatch)
    assert [launch.kernel.__name__ for launch in found] == ["_count", "_loss"]
    for launch in found:
        took = ahead_of_time.resources(ahead_of_time.compiled(launch, capability), capability)
        assert took.spilled == 0, launch.kernel.__name__
        assert took.registers <= MOST_REGISTERS, launch.kernel.__name__


@pytest.mark.parametrize("classes", [2, 19, 150])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_kernels_compile_for_every_gpu_without_spilling(classes, capability, monkeypatch):
    _check((2, classes, 1024), torch.float32, capability, monkeypatch)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((2, 19, 1023), torch.float32), ((2, 19, 1024), torch.bfloat16), ((1, 1, 1), torch.float16)],
    ids=str,
)
def test_odd_sizes_and_half_precision_do_as_well(shape, dtype, capability, monkeypatch):
    _check(shape, dtype, capability, monkeypatch)
