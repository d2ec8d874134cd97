"""Labels and domains of any type give the result of int64 or a ValueError, in every public function that takes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from blda.balance import alignment as aligning
from blda.balance.alignment import Alignment, alignment, alignments, correction, cumulative_density
from blda.balance.balanced_criterion import BalancedCriterion
from blda.balance.cross_entropy import balanced_cross_entropy, cross_entropy
from blda.balance.density_loss import DensityLoss
from blda.balance.kernels import choice
from blda.balance.logit_statistics import LogitStatistics
from blda.balance.pooled_statistics import PooledStatistics
from blda.calibration.calibration_file import Calibration
from blda.calibration.fit import fit_statistics
from blda.calibration.scores import scores
from blda.data.batches import Mixed, PseudoLabels
from blda.data.class_labels import INTEGERS
from blda.data.protocols import Protocol
from blda.data.sample import IGNORE, Sample
from blda.engine.class_accuracy import ClassAccuracy
from blda.engine.metrics import MeanIoU
from blda.models.output import Output
from blda.selftraining.mixing import chosen_classes, chosen_classes_of_batch, mix
from blda_video.smoothed_statistics import SmoothedStatistics

C, SHAPE = 5, (2, 7, 9)
KINDS = sorted(INTEGERS, key=str)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def _logits(shape: tuple[int, ...] = SHAPE, classes: int = C) -> Tensor:
    return torch.randn(shape[0], classes, *shape[1:], generator=torch.Generator().manual_seed(1)) * 3


def _labels(shape: tuple[int, ...] = SHAPE, ignored: bool = True) -> Tensor:
    labels = torch.randint(0, C, shape, generator=torch.Generator().manual_seed(2))
    hidden = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.2
    return torch.where(hidden, IGNORE, labels) if ignored else labels


def _statistics(kind: type[LogitStatistics] = LogitStatistics, device: str = "cpu") -> LogitStatistics:
    statistics = kind(C, components=2, min_pixels=1, warmup=0).to(device)
    counts = LogitStatistics(C).histogram(_logits((4, 16, 16)), _labels((4, 16, 16), False))
    statistics.fit(counts.to(device))
    return statistics


def _aligned(device: str = "cpu") -> Alignment:
    return alignment(_statistics(device=device), _statistics(device=device))


def _updated(kind: type[LogitStatistics]) -> Callable[[Tensor, Tensor], list[Tensor]]:
    def call(logits: Tensor, labels: Tensor) -> list[Tensor]:
        statistics = _statistics(kind, logits.device.type)
        statistics.update(logits, labels)
        return [*statistics.mixture, *statistics.anchors, statistics.bias()]

    return call


def _loss(logits: Tensor, labels: Tensor) -> list[Tensor]:
    logits = logits.clone().requires_grad_()
    loss = balanced_cross_entropy(logits, labels, [_aligned(logits.device.type)], 0.3)
    loss.backward()
    return [loss.detach(), logits.grad]


def _sample(logits: Tensor, labels: Tensor) -> Sample:
    names = tuple(map(str, range(len(logits))))
    return Sample(torch.zeros(len(logits), 3, *logits.shape[2:]), labels, names, tuple(range(len(logits))))


def _mixed_loss(logits: Tensor, labels: Tensor, correct_target: bool = True) -> list[Tensor]:
    device = logits.device.type
    loss = BalancedCriterion(_statistics(device=device), _statistics(device=device), 0.3, correct_target)
    weight = torch.ones(labels.shape, device=device)
    from_source = torch.zeros(labels.shape, dtype=torch.bool, device=device)
    from_source[..., ::2] = True
    mixed = Mixed(logits, labels, weight, from_source)
    return [loss.mixed_loss(logits, mixed, PseudoLabels(labels, weight)), *loss.target_statistics.mixture]


def _density_loss(logits: Tensor, labels: Tensor) -> list[Tensor]:
    device = logits.device.type
    loss = DensityLoss(BalancedCriterion(_statistics(device=device), _statistics(device=device)), nn.Identity())
    output = Output(logits, density=torch.full(labels.shape, 0.5, device=device))
    return [loss.source_loss(output, _sample(logits, labels))]


def _metric(kind: Callable) -> Callable[[Tensor, Tensor], list[Tensor]]:
    def call(logits: Tensor, labels: Tensor) -> list[Tensor]:
        names = tuple(f"class{i}" for i in range(C))
        metric = kind(names, [Protocol("all", names)])
        metric.update(_sample(logits, labels), logits, lambda image: image)
        return [metric.counts]

    return call


def _mixture(logits: Tensor, labels: Tensor) -> list[Tensor]:
    sample = _sample(logits, labels)
    pseudo = PseudoLabels(torch.zeros_like(labels).long(), torch.zeros(labels.shape))
    mixed = mix(sample, sample, pseudo, C, 0)
    return [mixed.label, mixed.weight, mixed.from_source]


def _draws(labels: Tensor) -> tuple[int, ...]:
    return tuple(range(len(labels)))


CALLS: dict[str, Callable[[Tensor, Tensor], list[Tensor]]] = {
    "histogram": lambda z, y: [_statistics(device=z.device.type).histogram(z, y)],
    "update": _updated(LogitStatistics),
    "update of pooled": _updated(PooledStatistics),
    "update of smoothed": _updated(SmoothedStatistics),
    "fit_statistics": lambda z, y: list(fit_statistics([(z, y)], C, min_pixels=1, device=z.device).mixture),
    "cross_entropy": lambda z, y: [cross_entropy(z, y)],
    "balanced_cross_entropy": _loss,
    "alignment": lambda z, y: list(alignment(*[_statistics(device=z.device.type)] * 2, y)),
    "alignments": lambda z, y: list(
        alignments([(_statistics(device=z.device.type), y)] * 2, _statistics(device=z.device.type))
    ),
    "correction": lambda z, y: [correction(z, y, [_aligned(z.device.type)])],
    "cumulative_density": lambda z, y: [cumulative_density(z, y, _statistics(device=z.device.type))],
    "source_loss": lambda z, y: [
        BalancedCriterion(_statistics(device=z.device.type), _statistics(device=z.device.type)).source_loss(
            z, _sample(z, y)
        )
    ],
    "mixed_loss": _mixed_loss,
    "mixed_loss, source alone": lambda z, y: _mixed_loss(z, y, False),
    "density": _density_loss,
    "MeanIoU": _metric(MeanIoU),
    "ClassAccuracy": _metric(ClassAccuracy),
}
OF_LABELS_ALONE = {
    "chosen_classes": lambda z, y: [chosen_classes(y, C, _draws(y), 0)],
    "chosen_classes_of_batch": lambda z, y: [chosen_classes_of_batch(y, C, _draws(y), 0)],
    "mix": _mixture,
}
FUNCTIONS = {**CALLS, **OF_LABELS_ALONE}


def _same(first: list[Tensor], second: list[Tensor]) -> None:
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_labels_of_any_integer_type_give_the_result_of_int64(name: str, kind: torch.dtype, device: str) -> None:
    labels = _labels(ignored=kind != torch.int8)
    if kind is torch.bool:
        labels = (labels == 1).long()
    if device == "cuda" and name == "mix":
        pytest.skip("its samples are on the CPU here")
    logits, labels = _logits().to(device), labels.to(device)
    call = FUNCTIONS[name]
    expected, result = call(logits, labels), call(logits, labels.to(kind))
    for a, b in zip(expected, result, strict=True):  # the order of sums on a GPU is undefined
        torch.testing.assert_close(b, a, equal_nan=True, **({} if device == "cuda" else {"rtol": 0, "atol": 0}))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_do_not_depend_on_the_memory_layout(name: str) -> None:
    logits, labels = _logits(), _labels()
    strided = logits.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    wide = torch.stack((labels, labels * 0 - 7), -1)[..., 0]
    assert not (strided.is_contiguous() or wide.is_contiguous())
    _same(FUNCTIONS[name](logits, labels), FUNCTIONS[name](strided, wide))


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain torch"])
@pytest.mark.parametrize("wrong", [-1, -128, C, 254, 256, 2**31, -(2**63)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_labels_that_are_not_classes_are_refused(name: str, wrong: int, compiled: bool, monkeypatch) -> None:
    if not compiled:
        monkeypatch.setitem(choice.NEEDS, "cpu", "a library that is not there")
        choice.kernels.cache_clear(), choice.mixtures.cache_clear(), choice._works.cache_clear()
    labels = _labels()
    labels[1, 3, 4] = wrong
    try:
        with pytest.raises(ValueError, match="label"):
            FUNCTIONS[name](_logits(), labels)
    finally:
        choice.kernels.cache_clear(), choice.mixtures.cache_clear(), choice._works.cache_clear()


@pytest.mark.parametrize("labels", [(2, 7, 8), (1, 7, 9), (2, 63), (2, 1, 7, 9), (), (7, 9)], ids=str)
@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("alignment", "alignments", "MeanIoU")])
def test_labels_of_another_shape_are_refused(name: str, labels: tuple[int, ...]) -> None:
    if name in ("ClassAccuracy", "mixed_loss", "mixed_loss, source alone", "density"):
        pytest.skip("takes labels from a sample, whose fields have one shape")
    with pytest.raises(ValueError, match="belong"):
        CALLS[name](_logits(), torch.zeros(labels, dtype=torch.int64))


@pytest.mark.parametrize("labels", [torch.zeros(SHAPE), torch.zeros(SHAPE, dtype=torch.complex64)], ids=["f", "c"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_labels_that_are_not_integers_are_refused(name: str, labels: Tensor) -> None:
    with pytest.raises(ValueError, match="labels are torch"):
        FUNCTIONS[name](_logits(), labels)


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("alignment", "alignments")])
def test_logits_of_other_channels_are_refused(name: str) -> None:
    if name in ("cross_entropy", "MeanIoU", "ClassAccuracy"):
        pytest.skip("has no lookup table, or takes the classes from the logits")
    for classes in (C - 1, C + 1):
        with pytest.raises(ValueError, match=r"expected 5 classes|does not belong"):
            CALLS[name](_logits(classes=classes), torch.zeros(SHAPE, dtype=torch.int64))


@pytest.mark.parametrize("shape", [(0, 7, 9), (2, 0, 9), (2, 7, 0)], ids=str)
@pytest.mark.parametrize("name", [name for name in CALLS if not name.startswith(("alignment", "MeanIoU", "Class"))])
def test_empty_batches_count_nothing(name: str, shape: tuple[int, ...]) -> None:
    for result in CALLS[name](_logits(shape), _labels(shape)):
        expected = CALLS[name](_logits(shape), _labels(shape).to(torch.uint8))
        assert result.shape in [tensor.shape for tensor in expected]


OF_TWO_DOMAINS = {
    "correction": lambda z, y, d: [correction(z, y, [_aligned()] * 2, d)],
    "balanced_cross_entropy": lambda z, y, d: [balanced_cross_entropy(z, y, [_aligned()] * 2, 0.3, d)],
}


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("name", OF_TWO_DOMAINS)
def test_domains_of_any_integer_type_give_the_result_of_int64(name: str, kind: torch.dtype) -> None:
    domain = torch.randint(0, 2, SHAPE)
    _same(
        OF_TWO_DOMAINS[name](_logits(), _labels(), domain), OF_TWO_DOMAINS[name](_logits(), _labels(), domain.to(kind))
    )
    _same(
        OF_TWO_DOMAINS[name](_logits(), _labels(), domain),
        OF_TWO_DOMAINS[name](_logits(), _labels(), domain.mT.contiguous().mT),
    )
    _same(OF_TWO_DOMAINS[name](_logits(), _labels(), 1), OF_TWO_DOMAINS[name](_logits(), _labels(), np.int64(1)))
    _same(
        OF_TWO_DOMAINS[name](_logits(), _labels(), 1),
        OF_TWO_DOMAINS[name](_logits(), _labels(), torch.tensor(1, dtype=kind)),
    )


@pytest.mark.parametrize("name", OF_TWO_DOMAINS)
def test_a_domain_without_an_alignment_is_refused(name: str) -> None:
    far = torch.zeros(SHAPE, dtype=torch.int64)
    far[0, 0, 0] = 2**40
    maps = [2, -1, 0.5, "1", None, far, -far, torch.zeros(SHAPE), torch.zeros(2, 7, 8, dtype=torch.int64)]
    for domain in (*maps, torch.tensor([0, 0])):
        with pytest.raises(ValueError, match="domain"):
            OF_TWO_DOMAINS[name](_logits(), _labels(ignored=False), domain)


def test_alignments_of_other_classes_are_refused() -> None:
    lookup, active = _aligned()
    for wrong in (
        Alignment(lookup[:3], active[:3]),
        Alignment(lookup[:, :3], active),
        Alignment(lookup[..., :-1], active),
        Alignment(lookup, active[:-1]),
        Alignment(lookup[:0], active[:0]),
        Alignment(lookup[0], active),
    ):
        for call in (
            lambda a: correction(_logits(), _labels(), [a]),
            lambda a: balanced_cross_entropy(_logits(), _labels(), [a], 0.1),
            lambda a: scores(_logits(), a, 0.1),
            lambda a: Calibration(a, 0.1, tuple("abcde")),
        ):
            with pytest.raises(ValueError, match=r"belong|classes"):
                call(wrong)
    for call in (correction, lambda *a: balanced_cross_entropy(*a, 0.1)):
        with pytest.raises(ValueError, match="no alignment"):
            call(_logits(), _labels(), [])
    twice = Alignment(lookup.double(), active.long())
    _same([correction(_logits(), _labels(), [twice])], [correction(_logits(), _labels(), [Alignment(lookup, active)])])
    _same(
        [balanced_cross_entropy(_logits(), _labels(), [twice], 0.1)],
        [balanced_cross_entropy(_logits(), _labels(), [Alignment(lookup, active)], 0.1)],
    )


def test_weights_and_histograms_are_checked() -> None:
    statistics, labels = _statistics(), _labels()
    for weight in (-1.0, torch.nan, torch.inf, 1e9):
        with pytest.raises(ValueError, match="weights of pixels"):
            statistics.histogram(_logits(), labels, torch.full(SHAPE, weight))
    for call in (
        lambda w: statistics.histogram(_logits(), labels, w),
        lambda w: cross_entropy(_logits(), labels, w),
        lambda w: balanced_cross_entropy(_logits(), labels, [_aligned()], 0.1, 0, w),
    ):
        for weight in (torch.ones(2, 7, 8), torch.ones(2), torch.ones(()), 1.0):
            with pytest.raises(ValueError, match="weight"):
                call(weight)
        _same([call(torch.ones(SHAPE))], [call(torch.ones(SHAPE, dtype=torch.int64))])
        _same([call(torch.ones(SHAPE))], [call(torch.ones(SHAPE, dtype=torch.float64))])
    for counts in (torch.zeros(C, C, 7), torch.zeros(C, C - 1, 1025), torch.zeros(())):
        for kind in (LogitStatistics, PooledStatistics):
            with pytest.raises(ValueError, match="histograms"):
                _statistics(kind).fit(counts)


def test_statistics_of_different_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="classes"):
        alignment(LogitStatistics(C + 1), LogitStatistics(C))
    for classes in (0, IGNORE + 1):
        with pytest.raises(ValueError, match="classes"):
            LogitStatistics(classes)


@pytest.mark.cuda
def test_wrong_labels_and_domains_make_the_loss_nan_on_a_gpu() -> None:
    logits, labels, aligned = _logits().cuda(), _labels().cuda(), _aligned("cuda")
    wrong = labels.clone()
    wrong[0, 0, 0] = 2**40
    domain = torch.zeros_like(labels)
    labels[0, 0, 0], domain[0, 0, 0] = 1, -(2**40)
    assert balanced_cross_entropy(logits, wrong, [aligned], 0.1).isnan()
    assert balanced_cross_entropy(logits, labels, [aligned], 0.1, domain).isnan()
    assert cross_entropy(logits, wrong).isnan()
    assert aligning.correction(logits, labels, [aligned], domain)[0, :, 0, 0].isnan().all()
    assert LogitStatistics(C).cuda().histogram(logits, wrong).isfinite().all()
