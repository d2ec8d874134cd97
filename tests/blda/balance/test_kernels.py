"""Compiled kernels of the CPU, compared with plain torch."""

import pytest
import torch
from torch import Tensor

from blda.balance import (
    alignment as alignment_module,
)
from blda.balance import (
    cross_entropy as cross_entropy_module,
)
from blda.balance import (
    logit_statistics,
)
from blda.balance.alignment import Alignment, alignment, balanced, correction
from blda.balance.cross_entropy import balanced_cross_entropy, cross_entropy
from blda.balance.gaussian_mixture import Mixture, cdf, em_step
from blda.balance.kernels.choice import kernels, mixtures
from blda.balance.logit_grid import BINS, nodes
from blda.balance.logit_statistics import LogitStatistics
from blda.data.sample import IGNORE

SHAPES = {
    "pixels": (2, 19, 33, 41),
    "one class": (2, 1, 5, 6),
    "images": (70, 12),
    "many": (1, 150, 9, 9),
    "one": (1, 3),
}


def _batch(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Make logits of all magnitudes, labels and weights."""
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=g) * torch.randint(1, 300, shape, generator=g).log()
    logits.view(-1)[:2] = torch.tensor([1e4, -1e4])
    labels = torch.randint(shape[1], (shape[0], *shape[2:]), generator=g)
    labels[torch.rand(labels.shape, generator=g) < 0.1] = IGNORE
    return logits, labels, torch.rand(labels.shape, generator=g)


def _domains(classes: int) -> list[Alignment]:
    g = torch.Generator().manual_seed(1)
    tables = (nodes() + torch.randn(classes, classes, BINS, generator=g) for _ in range(2))
    return [Alignment(table, torch.rand(classes, generator=g) < 0.8) for table in tables]


@pytest.fixture
def plain(monkeypatch):
    """Return a function that turns the compiled kernels off."""

    def turn_off() -> None:
        for module, name in (
            (cross_entropy_module, "kernels"),
            (logit_statistics, "kernels"),
            (logit_statistics, "mixtures"),
            (alignment_module, "mixtures"),
        ):
            monkeypatch.setattr(module, name, lambda device: None)

    return turn_off


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_compiled_counts_equal_plain_ones(shape, plain):
    logits, labels, weight = _batch(shape)
    domain = LogitStatistics(shape[1])
    compiled = domain.histogram(logits, labels, weight)
    plain()
    assert torch.equal(compiled, domain.histogram(logits, labels, weight))


def test_compiled_fit_equals_plain_em_in_double_precision():
    module = mixtures("cpu")
    if module is None:
        pytest.skip("numba is not installed")
    g = torch.Generator().manual_seed(0)
    start = Mixture(torch.full((3, 4, 5), 0.2), torch.randn(3, 4, 5, generator=g), torch.ones(3, 4, 5))
    counts = 100 * torch.rand(3, 4, BINS, generator=g).double() * (torch.rand(3, 4, BINS, generator=g) < 0.3)
    counts[1, 2] = 0
    fitted = module.fit(start, counts, 3)
    expected = Mixture(*(field.double() for field in start))
    for _ in range(3):
        expected = em_step(expected, nodes().double(), counts)
    for own, right in zip(fitted, expected, strict=True):
        torch.testing.assert_close(own, right.float(), atol=1e-4, rtol=1e-4)
    assert all(torch.equal(own[1, 2], old[1, 2]) for own, old in zip(fitted, start, strict=True))


def _adverse(case: str, classes: int) -> tuple[Tensor, Tensor]:
    """Make logits and labels (2, 40, 40) on which estimates are most likely to fail."""
    g = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(2, classes, 40, 40, generator=g)
    labels = torch.randint(min(classes, 4), (2, 40, 40), generator=g)
    if case == "constant":
        logits.fill_(1.25)
    if case == "huge":
        logits = 1e4 * logits.sign()
    if case == "two far peaks":
        logits = logits.sign() * 100 + logits / 100
    if case == "missing classes":
        labels[labels > 0] = IGNORE
    if case in ("one pixel", "all ignored"):
        labels.fill_(IGNORE)
    if case == "one pixel":
        labels[0, 3, 3] = 0
    return logits, labels


ADVERSE = ("usual", "constant", "huge", "two far peaks", "missing classes", "one pixel", "all ignored")


@pytest.mark.parametrize("classes", [1, 2, 5, 150])
@pytest.mark.parametrize("case", ADVERSE)
def test_compiled_statistics_and_lookups_equal_plain_ones(case, classes, plain):
    """Compare distribution functions and corrections, because equal components may come in another order."""
    if mixtures("cpu") is None:
        pytest.skip("numba is not installed")
    logits, labels = _adverse(case, classes)

    def estimated() -> tuple[LogitStatistics, Alignment, Tensor]:
        own = LogitStatistics(classes, min_pixels=1, warmup=4)
        for shift in (0, 0.5, 0):
            own.update(logits + shift, labels)
        aligned = alignment(own, own, labels)
        return own, aligned, correction(logits, labels, [aligned])

    own, aligned, delta = estimated()
    plain()
    expected, expected_aligned, expected_delta = estimated()
    for name in ("estimated", "absent", "updates"):
        assert torch.equal(getattr(own, name), getattr(expected, name))
    rows = expected.estimated[:classes]
    for fitted, right in (
        (Mixture(*(field[rows] for field in own.mixture)), Mixture(*(field[rows] for field in expected.mixture))),
        (own.anchors, expected.anchors),
    ):
        torch.testing.assert_close(cdf(fitted, nodes()), cdf(right, nodes()), atol=1e-3, rtol=0)
    assert torch.equal(aligned.active, expected_aligned.active)
    assert aligned.lookup.isfinite().all()
    assert not aligned.lookup[~aligned.active].any()
    torch.testing.assert_close(delta, expected_delta, atol=5e-3, rtol=1e-3)


def test_rows_without_counts_keep_their_mixtures():
    module = mixtures("cpu")
    if module is None:
        pytest.skip("numba is not installed")
    start = LogitStatistics(4).mixture
    counts = torch.rand(4, 4, BINS, dtype=torch.float64)
    fed = torch.tensor([True, False, True, False])
    selected, every = module.fit(start, counts, 3, fed), module.fit(start, counts, 3)
    for own, whole, old in zip(selected, every, start, strict=True):
        assert torch.equal(own[fed], whole[fed])
        assert torch.equal(own[~fed], old[~fed])


@pytest.mark.parametrize("classes", [1, 2, 6])
def test_compiled_alignment_equals_the_plain_one(classes, plain):
    logits, labels, _ = _batch((2, classes, 40, 50))
    statistics = LogitStatistics(classes, min_pixels=1)
    for _ in range(2):
        statistics.update(logits.clamp(-30, 30), labels)
    compiled = alignment(statistics, statistics, labels)
    plain()
    expected = alignment(statistics, statistics, labels)
    assert torch.equal(compiled.active, expected.active)
    torch.testing.assert_close(compiled.lookup, expected.lookup, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_compiled_loss_and_gradient_equal_those_of_corrected_logits(shape):
    logits, labels, weight = _batch(shape)
    domain = torch.randint(2, labels.shape, generator=torch.Generator().manual_seed(2))
    domains = _domains(shape[1])
    one, other = (logits.clone().requires_grad_() for _ in range(2))
    loss = balanced_cross_entropy(one, labels, domains, 0.1, domain, weight)
    delta = correction(other, labels, domains, domain)
    expected = cross_entropy(balanced(other, delta, 0.1), labels, weight)
    torch.testing.assert_close(loss, expected)
    (3 * loss).backward()
    (3 * expected).backward()
    torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-5)


def test_without_kernels_the_loss_is_the_same(plain):
    logits, labels, weight = _batch((2, 5, 8, 9))
    compiled = balanced_cross_entropy(logits, labels, _domains(5)[:1], 0.1, weight=weight)
    plain()
    torch.testing.assert_close(compiled, balanced_cross_entropy(logits, labels, _domains(5)[:1], 0.1, weight=weight))


def test_logits_of_an_image_classifier_are_images_of_one_pixel():
    logits, labels, _ = _batch((40, 7))
    one, other = LogitStatistics(7, min_pixels=1), LogitStatistics(7, min_pixels=1)
    one.update(logits, labels)
    other.update(logits[:, :, None, None], labels[:, None, None])
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers(), strict=True))
    as_pixels = correction(logits[..., None, None], labels[:, None, None], _domains(7))[..., 0, 0]
    torch.testing.assert_close(correction(logits, labels, _domains(7)), as_pixels)  # another layout in memory


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_do_not_depend_on_the_number_of_threads(threads):
    logits, labels, weight = _batch((2, 4, 64, 70))
    module, before = kernels("cpu"), torch.get_num_threads()
    if module is None:
        pytest.skip("numba is not installed")
    table, active = _domains(4)[0]
    arrays, share = (logits.flatten(2), labels.flatten(1)), weight.flatten(1)
    results = []
    try:
        for number in (threads, 4):
            torch.set_num_threads(number)
            results.append((module.count(*arrays, share),))
            results[-1] += module.loss_and_gradient(*arrays, 0, share, 1, table, active, 0.1)
            statistics = LogitStatistics(4, min_pixels=1)
            statistics.update(logits, labels)
            results[-1] += (*statistics.buffers(), *alignment(statistics, statistics, labels))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_infinite_or_nan_logits_spoil_the_loss_unless_ignored(value):
    logits, labels, _ = _batch((1, 3, 4, 8))
    labels[0, 0], labels[0, 1:] = 1, 2
    logits[0, 1, 0, 3] = value
    counts = LogitStatistics(3).histogram(logits, labels)
    assert counts.isfinite().all()
    assert counts[1, 0].sum() == (7 if value != value else 8)
    assert not balanced_cross_entropy(logits, labels, _domains(3)[:1], 0.1).isfinite()
    labels[0, 0, 3] = IGNORE
    ignored = logits.clone().requires_grad_()
    loss = balanced_cross_entropy(ignored, labels, _domains(3)[:1], 0.1)
    loss.backward()
    assert loss.isfinite()
    assert not ignored.grad[0, :, 0, 3].any()


@pytest.mark.parametrize("wrong", [-1, 3, 254, 256])
@pytest.mark.parametrize("work", ["histogram", "loss", "plain loss"])
def test_a_label_that_is_no_class_is_an_error_that_names_it(wrong, work):
    logits, labels, _ = _batch((1, 3, 4, 8))
    labels[0, 2, 2] = wrong
    works = {
        "histogram": lambda: LogitStatistics(3).histogram(logits, labels),
        "loss": lambda: balanced_cross_entropy(logits, labels, _domains(3)[:1], 0.1),
        "plain loss": lambda: cross_entropy(logits, labels),
    }
    with pytest.raises(ValueError, match=rf"label {wrong} is outside \[0, 3\)"):
        works[work]()


@pytest.mark.parametrize("shape", [(1, 4, 8), (1, 8, 4), (2, 4, 8)])
def test_labels_of_another_shape_are_an_error(shape):
    logits = torch.zeros(1, 3, 4, 9)
    for work in (LogitStatistics(3).histogram, cross_entropy):
        with pytest.raises(ValueError, match="do not belong to logits"):
            work(logits, torch.zeros(shape, dtype=torch.int64))


def test_a_second_backward_is_an_error_not_another_gradient():
    logits, labels, _ = _batch((1, 3, 4, 8))
    loss = balanced_cross_entropy(logits.requires_grad_(), labels, _domains(3)[:1], 0.1)
    if kernels("cpu") is None:
        pytest.skip("numba is not installed")
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward before"):
        loss.backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_get_their_gradient_in_half_precision(dtype):
    logits, labels, weight = _batch((1, 3, 4, 8))
    low = logits.clamp(-100, 100).to(dtype).requires_grad_()
    full = low.detach().float().requires_grad_()
    for own in (low, full):
        balanced_cross_entropy(own, labels, _domains(3)[:1], 0.1, weight=weight).backward()
    torch.testing.assert_close(low.grad, full.grad.to(dtype))


def test_small_half_precision_gradients_do_not_underflow(monkeypatch):
    """Give the CPU kernel's gradient the type of the logits, which the GPU kernel's has."""
    module = kernels("cpu")
    if module is None:
        pytest.skip("numba is not installed")
    made = module.loss_and_gradient

    def half(logits: Tensor, *others: object) -> tuple[Tensor, Tensor]:
        loss, gradient = made(logits, *others)
        return loss, gradient.to(logits.dtype)

    monkeypatch.setattr(module, "loss_and_gradient", half)
    logits, labels = torch.randn(1, 3, 512, 512).half(), torch.randint(3, (1, 512, 512))
    gradients = []
    for dtype in (torch.float16, torch.float32):
        own = logits.detach().clone().to(dtype).requires_grad_()
        (2**16 * balanced_cross_entropy(own, labels, _domains(3)[:1], 0.1)).backward()
        gradients.append(own.grad.float())
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=5e-3)
