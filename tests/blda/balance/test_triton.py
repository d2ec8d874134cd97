"""Triton kernels, compared with plain torch on the CPU: on a GPU if there is one, and in Triton's interpreter.

Triton decides at import whether it compiles or interprets, so a separate process runs the tests of this file again in
the interpreter.
"""

import copy
import os
import subprocess
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor

if find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)

import triton
import triton.language as tl
from test_kernels import SHAPES, _batch, _domains

from blda.balance import alignment as alignment_module
from blda.balance import cross_entropy as cross_entropy_module
from blda.balance import logit_statistics, pixels
from blda.balance.alignment import Alignment, alignment, balanced, correction, stacked
from blda.balance.balanced_criterion import BalancedCriterion
from blda.balance.cross_entropy import balanced_cross_entropy, cross_entropy
from blda.balance.gaussian_mixture import Mixture, em_step
from blda.balance.kernels import choice, cuda, cuda_mixtures
from blda.balance.logit_grid import BINS, UNITS, nodes
from blda.balance.logit_statistics import LogitStatistics
from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import IGNORE, Sample

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


@triton.jit
def _copy(from_at, to_at, block: tl.constexpr):
    place = tl.arange(0, block)
    tl.store(to_at + place, tl.load(from_at + place))


def _interpreter_works() -> bool:
    """Tell whether this Triton's interpreter can store a loaded value; that of 3.1 fails with NumPy 2."""
    values, copied = torch.arange(8), torch.zeros(8, dtype=torch.int64)
    _copy[(1,)](values, copied, 8)
    return torch.equal(values, copied)


@pytest.fixture(params=["interpreted" if INTERPRETED else pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request, monkeypatch) -> torch.device:
    """Return the device that the kernels run on."""
    if INTERPRETED and not _interpreter_works():
        pytest.skip(f"the interpreter of triton {triton.__version__} does not work beside this NumPy")
    if INTERPRETED:
        # The interpreter's time depends on the number of operations, not on their size.
        monkeypatch.setattr(cuda_mixtures, "NODES", 1024)
        monkeypatch.setattr(cuda, "GATHERED", 2**20)
    return torch.device("cpu" if INTERPRETED else request.param)


@pytest.fixture
def gpu(device) -> torch.device:
    """Return a GPU, for tests that the interpreter cannot run."""
    return pytest.skip("needs a GPU") if INTERPRETED else device


@contextmanager
def _using(kernels, mixtures):
    """Use these modules of kernels on any device, or plain torch if they are None."""
    chosen = {"kernels": kernels, "mixtures": mixtures}
    with pytest.MonkeyPatch.context() as patch:
        for module in (cross_entropy_module, logit_statistics, alignment_module):
            for name in chosen.keys() & vars(module).keys():
                patch.setattr(module, name, lambda device, name=name: chosen[name])
        yield


def _plain():
    return _using(None, None)


def _triton():
    return _using(cuda, cuda_mixtures)


@pytest.mark.skipif(INTERPRETED, reason="would start itself again without end")
def test_all_tests_of_this_file_pass_in_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-x", __file__]
    root = Path(__file__).parents[3]
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def _contiguous(logits: Tensor) -> Tensor:
    return logits


def _sliced(logits: Tensor) -> Tensor:
    wide = torch.zeros(*logits.shape[:-1], logits.shape[-1] + 3, dtype=logits.dtype, device=logits.device)
    wide[..., 1:-2] = logits
    return wide[..., 1:-2]


def _every_other(logits: Tensor) -> Tensor:
    return logits.repeat_interleave(2, 1)[:, ::2]


def _channels_last(logits: Tensor) -> Tensor:
    return logits.contiguous(memory_format=torch.channels_last)


LAYOUTS = {
    **{name: (shape, torch.float32, _contiguous) for name, shape in SHAPES.items()},
    "bfloat16": ((2, 19, 16, 32), torch.bfloat16, _contiguous),
    "float16": ((2, 19, 15, 31), torch.float16, _contiguous),
    "float64": ((2, 3, 15, 31), torch.float64, _contiguous),
    "channels last": ((2, 7, 16, 32), torch.float32, _channels_last),
    "channels last, float16": ((2, 7, 15, 31), torch.float16, _channels_last),
    "a part of wider images": ((2, 3, 24, 29), torch.float32, _sliced),
    "every other channel": ((2, 3, 16, 32), torch.bfloat16, _every_other),
    "no images": ((0, 3, 4, 5), torch.float32, _contiguous),
    "no pixels": ((2, 3, 0, 5), torch.float32, _contiguous),
}


def _check(logits: Tensor, labels: Tensor, weight: Tensor, device: torch.device) -> None:
    """Assert that histograms, loss and gradient of Triton on the device equal those of plain torch on the CPU."""
    classes, domains = logits.shape[1], _domains(logits.shape[1])
    domain = torch.randint(2, labels.shape, generator=torch.Generator().manual_seed(2))
    there = [Alignment(*(field.to(device) for field in aligned)) for aligned in domains]
    own, other = logits.to(device).detach().requires_grad_(), logits.detach().float().requires_grad_()
    maps = [tensor.to(device) for tensor in (labels, weight)]
    with _triton():
        counts = LogitStatistics(classes).to(device).histogram(own.detach(), *maps)
        loss = balanced_cross_entropy(own, maps[0], there, 0.1, domain.to(device), maps[1])
        loss.backward()
    with _plain():
        assert torch.equal(counts.cpu(), LogitStatistics(classes).histogram(other.detach(), labels, weight))
        delta = correction(other, labels, domains, domain)
        expected = cross_entropy(balanced(other, delta, 0.1), labels, weight)
        expected.backward()
    assert own.grad.dtype == logits.dtype
    torch.testing.assert_close(loss.cpu(), expected, equal_nan=True)
    half = logits.dtype in (torch.bfloat16, torch.float16)
    close = {"atol": 1e-5, "rtol": 1e-2} if half else {"atol": 1e-6, "rtol": 1e-4}
    # In plain torch the gradient of an ignored pixel is 0 times its softmax, which may be NaN.
    right = torch.where(labels[:, None] == IGNORE, 0.0, other.grad)
    torch.testing.assert_close(own.grad.float().cpu(), right, equal_nan=True, **close)


@pytest.mark.parametrize(("shape", "dtype", "layout"), LAYOUTS.values(), ids=LAYOUTS)
def test_kernels_equal_plain_torch_for_any_shape_type_and_strides(shape, dtype, layout, device):
    logits, labels, weight = _batch((max(1, shape[0]), *shape[1:2], *(max(1, size) for size in shape[2:])))
    if 0 in shape:
        logits, labels = logits[: shape[0], :, : shape[2]], labels[: shape[0], : shape[2]]
        weight = weight[: shape[0], : shape[2]]
    _check(layout(logits.clamp(-1e4, 1e4).to(dtype)), labels, weight, device)


def _fill(value: float, *at: slice | int):
    def fill(logits: Tensor, labels: Tensor) -> None:
        logits[at] = value

    return fill


def _one_class(logits: Tensor, labels: Tensor) -> None:
    labels.fill_(1)


def _all_ignored(logits: Tensor, labels: Tensor) -> None:
    labels.fill_(IGNORE)


def _mixture_of_all(logits: Tensor, labels: Tensor) -> None:
    for pixel, value in enumerate((float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 255.0, -255.0, 1e-40)):
        logits[0, pixel % 3, 0, pixel] = value


ADVERSARIAL = {
    "all ignored": _all_ignored,
    "one class": _one_class,
    "all alike": _fill(0.0),
    "negative zero": _fill(-0.0, 0),
    "huge": _fill(1e4, slice(None), 1),
    "hugely negative": _fill(-1e4, slice(None), 1),
    "infinite": _fill(float("inf"), 0, 1, 0),
    "minus infinite": _fill(-float("inf"), 0, 1, 0),
    "nothing but minus infinite": _fill(-float("inf"), 0, slice(None), 0),
    "the first class minus infinite": _fill(-float("inf"), slice(None), 0),
    "no number": _fill(float("nan"), 0, 1, 2),
    "no numbers at all": _fill(float("nan")),
    "everything": _mixture_of_all,
}


@pytest.mark.parametrize("change", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_kernels_equal_plain_torch_on_adversarial_batches(change, device):
    logits, labels, weight = _batch((2, 3, 5, 107))
    change(logits, labels)
    _check(logits, labels, weight, device)


def test_wrong_labels_are_not_counted_and_make_the_loss_nan(device):
    logits, labels, weight = _batch((1, 3, 4, 150))
    wrong = labels.clone()
    wrong[0, 0] = torch.tensor([-(2**40), -2, 3, 6, 254, 2**31, 2**40, 2**62]).repeat(19)[:150]
    labels[0, 0] = IGNORE
    table, active = (field.to(device) for field in stacked(_domains(3)[:1], 3))
    flat, share = pixels.flat_logits(logits).to(device), pixels.flat_map(weight).to(device)
    counts, losses, gradients = [], [], []
    for label in (wrong, labels):
        maps = pixels.flat_map(label).to(device)
        loss, gradient = cuda.loss_and_gradient(flat, maps, 0, share, 1, table, active, 0.1)
        counts.append(cuda.count(flat, maps, share))
        losses.append(loss)
        gradients.append(gradient[..., 150:])
    assert torch.equal(*counts)
    assert torch.equal(*gradients)
    assert losses[0].isnan()
    assert losses[1].isfinite()
    units = (weight * UNITS).round().long()
    assert (counts[0] * UNITS).sum() == 3 * units[labels != IGNORE].sum()


def test_weights_are_rounded_as_torch_rounds(device):
    weight = torch.cat(
        (torch.arange(300) / 2, torch.tensor([2.0**22 + 0.5, 2.0**23 - 0.5, 2.0**23 + 1, 2.0**30 + 128]))
    )
    weight = weight[None] / UNITS
    labels, logits = torch.zeros(weight.shape, dtype=torch.int64), torch.zeros(1, 1, weight.shape[1])
    counts = cuda.count(logits.to(device), labels.to(device), weight.to(device))
    assert counts.sum() * UNITS == (weight * UNITS).round().double().sum()


@pytest.mark.parametrize("components", [1, 3, 5, 9])
def test_fit_equals_plain_em_in_double_precision(components, device):
    g = torch.Generator().manual_seed(0)
    start = LogitStatistics(3, components, momentum=0, min_pixels=1)
    counts = 100 * torch.rand(3, 3, BINS, generator=g).double() * (torch.rand(3, 3, BINS, generator=g) < 0.3)
    counts[..., :200] = 0
    counts[1, 1] = 0
    counts[2, 0], counts[2, 0, 700] = 0, 1e7  # one value only: the variance's floor
    fitted = copy.deepcopy(start).to(device)
    with _triton():
        fitted.fit(counts.to(device))
    expected = Mixture(*(field.double() for field in start.mixture))
    for _ in range(3):
        expected = em_step(expected, nodes().double(), counts)
    for own, right, old in zip(fitted.mixture, expected, start.mixture, strict=True):
        torch.testing.assert_close(own.cpu(), right.float(), atol=1e-4, rtol=1e-4)
        assert torch.equal(own[1, 1].cpu(), old[1, 1])


def test_average_with_the_past_equals_plain_torch(device):
    """Rows have counts, have none, and have counts again, before and after the end of the warm-up."""
    g = torch.Generator().manual_seed(0)
    one = LogitStatistics(3, 2, warmup=3, min_pixels=50)
    other = copy.deepcopy(one).to(device)
    for step in range(7):
        counts = torch.rand(3, 3, BINS, generator=g).double() * (torch.rand(3, 3, BINS, generator=g) < 0.3)
        counts[step % 3] *= 0.0 if step % 2 else 1e-3
        if step == 5:
            counts *= 0
        with _plain():
            one.fit(counts)
        with _triton():
            other.fit(counts.to(device))
        for name, right in one.named_buffers():
            own = getattr(other, name).cpu()
            if right.is_floating_point():
                torch.testing.assert_close(own, right, atol=1e-4, rtol=1e-3, msg=lambda text, n=name: f"{n} {text}")
            else:
                assert torch.equal(own, right), (step, name)


@pytest.mark.parametrize("classes", [1, 3])
def test_alignment_equals_the_plain_one(classes, device):
    logits, labels, _ = _batch((2, classes, 40, 50))
    labels[labels == 2] = IGNORE
    domain = LogitStatistics(classes, min_pixels=1)
    with _plain():
        for _ in range(2):
            domain.update(logits.clamp(-30, 30), labels)
        domain.variances[0, 0] = 1e-4
        expected = alignment(domain, domain)
    with _triton():
        there = domain.to(device)
        aligned = alignment(there, there)
    assert torch.equal(aligned.active.cpu(), expected.active)
    assert aligned.active.sum() == min(classes, 2)
    own = aligned.lookup.cpu()
    assert not own[~expected.active].any()
    torch.testing.assert_close(own[expected.active], expected.lookup[expected.active], atol=2e-3, rtol=1e-3)


def _steps(criterion: BalancedCriterion, device: torch.device) -> list[Tensor]:
    """Return losses and gradients of two steps on source and mixed batches."""
    results = []
    for seed in range(2):
        logits, labels, weight = (tensor.to(device) for tensor in _batch((2, 3, 24, 30), seed))
        own = (3 * torch.nn.functional.one_hot(labels.clamp(max=2), 3)).movedim(-1, 1)
        logits = (logits.clamp(-4, 4) + own).requires_grad_()
        from_source = (torch.arange(30, device=device) < 11).expand(labels.shape)
        mixed, pseudo = Mixed(logits, labels, weight, from_source), PseudoLabels(labels, weight)
        source = Sample(logits, labels, ("",) * 2, (0,) * 2)
        for loss in (criterion.source_loss(logits, source), criterion.mixed_loss(logits, mixed, pseudo)):
            results += [loss, torch.autograd.grad(loss, logits)[0]]
    return [result.detach().cpu() for result in results]


def test_steps_equal_those_of_plain_torch(device):
    one, other = (BalancedCriterion(*(LogitStatistics(3, warmup=2) for _ in range(2)), tau=0.3) for _ in range(2))
    with _plain():
        expected = _steps(one, torch.device("cpu"))
    for domain in other.state().values():
        domain.to(device)
    with _triton():
        results = _steps(other, device)
    assert len({float(loss) for loss in expected[::2]}) == 4
    for own, right in zip(results, expected, strict=True):
        torch.testing.assert_close(own, right, atol=1e-4, rtol=1e-3)
    for own, right in zip(other.source_statistics.buffers(), one.source_statistics.buffers(), strict=True):
        torch.testing.assert_close(own.cpu(), right, atol=1e-3, rtol=1e-3)


def test_the_host_never_waits_for_the_gpu(gpu):
    criterion = BalancedCriterion(*(LogitStatistics(3).to(gpu) for _ in range(2)))
    _steps(criterion, gpu)  # compiles
    logits, labels, _ = (tensor.to(gpu) for tensor in _batch((2, 3, 24, 30)))
    sample = Sample(logits.requires_grad_(), labels, ("",) * 2, (0,) * 2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        criterion.source_loss(logits, sample).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_wrong_label_makes_the_loss_nan_on_a_gpu(gpu):
    logits, labels, _ = (tensor.to(gpu) for tensor in _batch((1, 3, 4, 8)))
    domains = [Alignment(*(field.to(gpu) for field in aligned)) for aligned in _domains(3)[:1]]
    for wrong in (-1, 3, 254, 2**40):
        labels[0, 2, 2] = wrong
        assert balanced_cross_entropy(logits, labels, domains, 0.1).isnan()
        assert LogitStatistics(3).to(gpu).histogram(logits, labels).isfinite().all()


def test_kernels_index_more_logits_than_32_bits_can(gpu):
    classes, size, tail = 150, 2**24, 4096
    if torch.cuda.mem_get_info()[0] < 20 * 2**30:
        pytest.skip("needs 20 GB of free GPU memory")
    logits = torch.zeros(1, classes, size, dtype=torch.float16, device=gpu)
    logits[..., -tail:] = torch.randn(1, classes, tail, device=gpu, generator=torch.Generator(gpu).manual_seed(0))
    row = torch.full((1, size), IGNORE, device=gpu)
    row[:, -tail:] = torch.arange(tail, device=gpu) % classes
    ones = torch.ones(1, size, device=gpu)
    table, active = (field.to(gpu) for field in _domains(classes)[0])
    counts = cuda.count(logits, row, ones)
    loss, gradient = cuda.loss_and_gradient(logits, row, 0, ones, 1, table, active, 0.1)
    end = [tensor[..., -tail:].contiguous() for tensor in (logits, row, ones)]
    assert torch.equal(counts, cuda.count(*end))
    expected, slope = cuda.loss_and_gradient(*end[:2], 0, end[2], 1, table, active, 0.1)
    torch.testing.assert_close(loss, expected)
    assert torch.equal(gradient[..., -tail:], slope)
    assert not gradient[..., :-tail].any()


def test_plain_torch_works_where_triton_cannot_compile(monkeypatch):
    def count(*tensors: Tensor) -> Tensor:
        raise RuntimeError("Failed to find C compiler.")

    monkeypatch.setattr(cuda, "count", count)
    monkeypatch.setattr(torch, "zeros", lambda *shape, **of: torch.empty(shape))
    choice.kernels.cache_clear()
    choice.mixtures.cache_clear()
    try:
        with pytest.warns(UserWarning, match="plain torch does its work: Failed to find C compiler"):
            assert choice.kernels("cuda") is None
        assert choice.mixtures("cuda") is None
    finally:
        choice.kernels.cache_clear()
        choice.mixtures.cache_clear()
