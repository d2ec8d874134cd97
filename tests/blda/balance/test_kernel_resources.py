"""Resources of Triton kernels: they compile for all supported GPUs, without one, and few registers are used."""

from importlib.util import find_spec

import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

import ahead_of_time
import triton

from blda.balance.gaussian_mixture import Mixture
from blda.balance.kernels import cuda, cuda_mixtures
from blda.balance.logit_grid import BINS

TRITON = tuple(map(int, triton.__version__.split(".")[:2]))
OLD = "Triton 3.2, of torch 2.6, spills registers with 8 components; the default is 5"
CAPABILITIES = [75, 80, 86, 89, 90, 100, 120]

MOST_REGISTERS = {
    "_count": 64,
    "_gather": 64,
    "_loss": 96,
    "_pool": 64,
    "_fit": 128,
    "_note": 64,
    "_tabulate": 64,
    "_align": 64,
}
"""Largest number of registers a thread; at 96, 640 threads share a multiprocessor, enough to hide gathers' latency."""


def _pixels(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Launch the kernels of a step that loop over pixels; the values of the tensors do not matter."""
    logits, (batch, classes, pixels) = torch.zeros(shape, dtype=dtype), shape
    labels, domain, weight = (
        torch.zeros(batch, pixels, dtype=kind) for kind in (torch.int64, torch.bool, torch.float32)
    )
    table, active = torch.empty(2 * classes, classes, BINS), torch.zeros(2 * classes, dtype=torch.bool)
    cuda.count(logits, labels, weight)
    cuda.loss_and_gradient(logits, labels, domain, weight, batch * pixels, table, active, 0.1)


def _cells(classes: int, components: int) -> None:
    """Launch the kernels of a step that loop over cells; the values of the tensors do not matter."""
    cells, anchors = (
        Mixture(*(torch.ones(*shape, components) for _ in range(3))) for shape in ((classes, classes), (2,))
    )
    history = [torch.zeros(classes + 2, dtype=kind) for kind in (torch.int8, torch.int64)]
    state = cuda_mixtures.State(cells, anchors, *history, torch.zeros((), dtype=torch.int64))
    counts, settings = torch.zeros(classes, classes, BINS, dtype=torch.float64), cuda_mixtures.Settings(0.99, 1500, 100)
    cuda_mixtures.advance(state, counts, settings, 3)
    table = torch.zeros(classes, classes, BINS)
    cuda_mixtures.align(cells, anchors, 0.01, table, torch.zeros(classes, dtype=torch.bool))


def _check(launches: list[ahead_of_time.Launch], capability: int) -> None:
    if not ahead_of_time.knows(capability):
        pytest.skip(f"the assembler of this triton does not know sm_{capability}")
    for launch in launches:
        resources = ahead_of_time.resources(ahead_of_time.compiled(launch, capability), capability)
        name = launch.kernel.__name__
        assert resources.spilled == 0, name
        assert resources.registers <= MOST_REGISTERS[name], name


@pytest.mark.parametrize("classes", [2, 19, 150])
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_kernels_compile_for_every_gpu_without_spilling(classes, capability, monkeypatch):
    work = ahead_of_time.launches(cuda, lambda: _pixels((2, classes, 1024), torch.float32), monkeypatch)
    work += ahead_of_time.launches(cuda_mixtures, lambda: _cells(classes, components=5), monkeypatch)
    assert list(dict.fromkeys(launch.kernel.__name__ for launch in work)) == list(MOST_REGISTERS)
    _check(work, capability)


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((2, 19, 1023), torch.float32), ((2, 19, 1024), torch.bfloat16), ((1, 1, 1), torch.float16)],
    ids=str,
)
def test_kernels_for_odd_sizes_and_half_precision_do_not_spill(shape, dtype, capability, monkeypatch):
    _check(ahead_of_time.launches(cuda, lambda: _pixels(shape, dtype), monkeypatch), capability)


@pytest.mark.parametrize("components", [1, pytest.param(8, marks=pytest.mark.skipif(TRITON < (3, 3), reason=OLD))])
def test_kernels_for_other_numbers_of_components_do_not_spill(components, monkeypatch):
    _check(ahead_of_time.launches(cuda_mixtures, lambda: _cells(19, components), monkeypatch), 90)
