"""Figures of logit statistics: sizes, edge cases, and numbers equal to those of the loss."""

import pytest
import torch

from blda.balance.alignment import CLIP, alignment, correction
from blda.balance.diagnostics import StatisticsDiagnostics
from blda.balance.figures import statistics_figure
from blda.balance.figures.cells import NEGATIVE, POSITIVE, cells, median_correction
from blda.balance.figures.cells import correction as correction_of
from blda.balance.logit_statistics import LogitStatistics
from blda.engine.run_log import RunLog
from blda.engine.trackers import TensorBoardTracker
from blda.selftraining.criterion import PlainLoss
from blda.selftraining.self_training import SelfTraining
from blda.selftraining.supervised import Supervised


def _made(classes, seed=0, never=(), scale=1.0):
    """Make statistics that look fitted, with positive logits above negative ones."""
    g = torch.Generator().manual_seed(seed)
    statistics = LogitStatistics(classes, components=2)
    shape = statistics.means.shape
    statistics.means.copy_(scale * (6 * torch.eye(classes)[..., None] - 3 + torch.randn(shape, generator=g)))
    statistics.variances.copy_((scale * (0.3 + torch.rand(shape, generator=g))).square())
    statistics.anchor_means.copy_(scale * torch.tensor([[2.0, 4.0], [-4.0, -2.0]]))
    statistics.estimated.fill_(True)
    statistics.estimated[list(never)] = False
    return statistics


def _names(classes):
    return [f"class {index}" for index in range(classes)]


def _words(axes):
    return [text.get_text() for text in axes.texts]


@pytest.mark.parametrize("classes", [1, 2, 5, 19, 150])
def test_any_class_count_gives_one_image_of_bounded_size(classes):
    never = () if classes == 1 else (classes - 1,)
    drawn = statistics_figure.overview(
        _made(classes), _made(classes, 1, never), _names(classes), 0.1, torch.zeros(classes)
    )
    image = statistics_figure.pixels(drawn)
    assert image.dtype == torch.uint8
    assert image.shape[0] == 3
    assert 400 < image.shape[1] <= 1080
    assert 800 < image.shape[2] <= 1880
    assert image.float().std() > 10
    assert all(len(axis.get_yticks()) <= 41 for half in drawn.subfigs for axis in half.axes)


def test_figure_says_if_nothing_is_estimated():
    drawn = statistics_figure.overview(LogitStatistics(5), LogitStatistics(5), _names(5))
    assert statistics_figure.pixels(drawn).ndim == 3
    positive, negative, _ = drawn.subfigs[1].axes
    assert _words(positive) == _words(negative) == ["never estimated"]


def test_one_class_has_no_negative_logits():
    statistics = LogitStatistics(1, min_pixels=1)
    statistics.update(torch.randn(50, 1), torch.zeros(50, dtype=torch.int64))
    drawn = statistics_figure.overview(statistics, statistics, ["thing"])
    statistics_figure.pixels(drawn)
    positive, negative, _ = drawn.subfigs[1].axes
    assert _words(positive) == []
    assert _words(negative) == ["never estimated"]


def test_the_same_statistics_give_the_same_pixels():
    source, target = _made(4), _made(4, 1, never=(2,))
    before = {name: value.clone() for name, value in target.state_dict().items()}
    first, second = (
        statistics_figure.pixels(statistics_figure.overview(source, target, _names(4), 0.1)) for _ in range(2)
    )
    assert torch.equal(first, second)
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())
    other = statistics_figure.pixels(statistics_figure.overview(source, _made(4, 2, never=(2,)), _names(4), 0.1))
    assert not torch.equal(first, other)


def test_classes_never_estimated_are_marked():
    drawn = statistics_figure.overview(_made(6), _made(6, 1, never=(1, 4)), _names(6))
    matrices, rows = (half.axes for half in drawn.subfigs)
    for axis in (matrices[0], rows[0]):
        marked = {label.get_text() for label in axis.get_yticklabels() if label.get_fontstyle() == "italic"}
        assert marked == {"class 1", "class 4"}
    values = matrices[1].images[0].get_array()
    assert values.mask.all(1).tolist() == [row in (1, 4) for row in range(6)]


def test_of_many_classes_the_most_biased_have_a_row():
    source, target = _made(60), _made(60, 1)
    target.means[:, 7] += 2.5  # over-predicted
    target.means[:, 50] -= 4
    labels = [
        label.get_text()
        for label in statistics_figure.overview(source, target, _names(60)).subfigs[1].axes[0].get_yticklabels()
    ]
    assert len(labels) == 41
    assert labels[:2] == ["anchor", "class 7"]
    assert "class 50" in labels[-20:]


def test_an_outlying_class_does_not_stretch_the_axis():
    target = _made(30, 1)
    target.means[3, 3] += 1000
    positive = statistics_figure.overview(_made(30), target, _names(30)).subfigs[1].axes[0]
    assert positive.get_xlim()[1] < 20
    assert _words(positive) == ["beyond this axis"]


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_any_scale_of_logits_is_drawn(scale):
    drawn = statistics_figure.overview(_made(3, scale=scale), _made(3, 1, scale=scale), _names(3))
    statistics_figure.pixels(drawn)
    positive, negative, _ = drawn.subfigs[1].axes
    assert positive.get_xlim()[1] - negative.get_xlim()[0] > 4 * scale
    assert _words(positive) == _words(negative) == []


def test_names_are_not_parsed_as_formulas():
    names = ["$x", "a_{b}$", "a very long name of a class indeed"]
    statistics_figure.pixels(statistics_figure.overview(_made(3), _made(3, 1), names))


def test_closeup_draws_a_density_and_a_correction_for_each_pair():
    drawn = statistics_figure.closeup(_made(6), _made(6, 1, never=(4,)), _names(6), ["class 4", "class 1"])
    assert statistics_figure.pixels(drawn).shape[0] == 3
    assert len(drawn.axes) == 8
    assert [axis.get_title() for axis in drawn.axes[:2]] == ["logit of class 4", "logit of class 1"]


def test_closeup_refuses_unknown_and_too_many_classes():
    pair = _made(12), _made(12, 1)
    with pytest.raises(ValueError, match=r"no class cart; the run has class 0, "):
        statistics_figure.closeup(*pair, _names(12), ["class 1", "cart"])
    with pytest.raises(ValueError, match=r"a close-up of 9 classes is not readable; choose 1 to 8"):
        statistics_figure.closeup(*pair, _names(12), _names(9))


def test_drawn_corrections_equal_those_of_the_loss():
    source, target = _made(4), _made(4, 1)
    own, other = cells(source), cells(target)
    values = torch.linspace(-8, 8, 200)
    domains = [alignment(target, source)]
    for label, channel in ((0, 0), (2, 1)):
        logits = torch.zeros(200, 4)
        logits[:, channel] = values
        expected = correction(logits, torch.full((200,), label), domains)[:, channel]
        drawn_delta = correction_of(other, own, label, channel, values)
        torch.testing.assert_close(drawn_delta, expected, atol=0.02, rtol=0)
        at_median = correction_of(other, own, label, channel, other.median[label, channel, None])
        torch.testing.assert_close(median_correction(other, own)[label, channel], at_median[0], atol=0.01, rtol=0)


def test_quantiles_equal_those_of_samples():
    domain = cells(_made(3, never=(1,)))
    samples = domain.mixture.means[0, 2, :, None] + domain.mixture.variances[0, 2, :, None].sqrt() * torch.randn(
        2, 200_000, generator=torch.Generator().manual_seed(0)
    )
    expected = samples.flatten().quantile(torch.tensor([CLIP, 0.5, 1 - CLIP]))
    torch.testing.assert_close(domain.quantiles[0, 2], expected, atol=0.03, rtol=0)
    assert domain.quantiles[1].isnan().all()
    assert not domain.quantiles[0].isnan().any()


def test_densities_integrate_to_one_and_average_the_right_rows():
    domain, edges = cells(_made(3, never=(1,))), torch.linspace(-20, 20, 50)
    for density in (
        domain.density(0, 1, edges),
        domain.class_density(2, POSITIVE, edges),
        domain.class_density(1, NEGATIVE, edges),
        domain.anchor_density(NEGATIVE, edges),
    ):
        torch.testing.assert_close((density * edges.diff()).sum(), torch.tensor(1.0))
    assert domain.class_density(1, POSITIVE, edges).isnan().all()
    both = (domain.density(0, 1, edges) + domain.density(2, 1, edges)) / 2
    torch.testing.assert_close(domain.class_density(1, NEGATIVE, edges), both)


def test_methods_return_their_figures_and_validation_numbers():
    diagnostics = StatisticsDiagnostics(_made(3), _made(3, 1), _names(3))
    components = (None, None, None, PlainLoss(), None, 3, 0)
    balanced, plain = SelfTraining(*components, diagnostics=diagnostics), SelfTraining(*components)
    scores = {f"bias/{name}": value for name, value in zip(_names(3), (0.1, -0.2, 0.1), strict=True)}
    assert {name: image.dtype for name, image in balanced.figures().items()} == {"statistics": torch.uint8}
    assert balanced.validation(scores).keys() == {"bias_rank_correlation", "bias_rank_correlation/all"}
    for method in (plain, Supervised(None, PlainLoss())):
        assert method.figures() == method.validation(scores) == {}


def test_the_log_draws_figures_in_the_main_process_only(tmp_path, monkeypatch):
    tracker, drawn = TensorBoardTracker(tmp_path), []
    log = RunLog(tmp_path, _names(3), trackers=[tracker])
    monkeypatch.setattr(tracker._open(), "add_image", lambda name, image, step: drawn.append((name, image, step)))
    diagnostics = StatisticsDiagnostics(_made(3), LogitStatistics(3), _names(3))
    log.figures(3, dict)
    assert drawn == []
    log.figures(4, diagnostics.figures)
    (name, image, step), *more = drawn
    assert (name, step, image.dtype, more) == ("train/statistics", 4, torch.uint8, [])
    other = RunLog(tmp_path, _names(3), main=False, trackers=[tracker])
    other.figures(5, lambda: pytest.fail("drawn by another process"))
