"""Post-hoc scores, the calibration file, and their effect on a network that under-predicts a class."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import nn

import reference
from blda.balance import logit_grid
from blda.balance.alignment import Alignment, alignment
from blda.balance.kernels.choice import scoring
from blda.balance.logit_statistics import LogitStatistics
from blda.calibration.calibration_file import FORMAT, Calibration
from blda.calibration.fit import fit_statistics, sampled_bias
from blda.calibration.scores import scores
from blda.calibration.tau_sweep import TauSweep
from blda.data.protocols import protocol_of
from blda.data.sample import IGNORE, Sample
from blda.engine.inference import Predictor
from blda.engine.metrics import MeanIoU


def _statistics(classes: int, seed: int = 0) -> LogitStatistics:
    statistics = LogitStatistics(classes, seed=seed)
    g = torch.Generator().manual_seed(seed)
    for prefix in ("", "anchor_"):
        weights = getattr(statistics, f"{prefix}weights")
        weights.copy_(torch.rand(weights.shape, generator=g) + 0.1)
        weights /= weights.sum(-1, keepdim=True)
        getattr(statistics, f"{prefix}means").mul_(2)
        getattr(statistics, f"{prefix}variances").uniform_(0.2, 1.2, generator=g)
    statistics.estimated.fill_(True)
    return statistics


def _alignment(classes: int, seed: int = 0) -> Alignment:
    return alignment(_statistics(classes, seed), _statistics(classes, seed + 1))


def _logits(*shape: int, scale: float = 4) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def _direct(logits: torch.Tensor, target: LogitStatistics, source: LogitStatistics, tau: float) -> torch.Tensor:
    """Evaluate the post-hoc scores of METHOD 2 directly, candidate by candidate in float64."""
    columns = []
    for candidate in range(logits.shape[1]):
        label = torch.full_like(logits[:, 0], candidate, dtype=torch.int64)
        delta = reference.correction(logits, label, target.mixture, source.anchors)
        columns.append((logits.double() + tau * delta).log_softmax(1)[:, candidate])
    return torch.stack(columns, 1)


@pytest.mark.parametrize("tau", [0.1, 1.0])
@pytest.mark.parametrize("classes", [1, 2, 5, 12])
def test_scores_equal_the_direct_evaluation(classes, tau):
    target, source = _statistics(classes), _statistics(classes, 1)
    logits = _logits(2, classes, 9, 14)
    result, direct = scores(logits, alignment(target, source), tau), _direct(logits, target, source, tau)
    error = (result - direct).abs()
    assert error.flatten().quantile(0.99) < 0.02
    assert error.max() < 0.05 * tau  # a cell that is wrong is off by at least twice as much somewhere
    first, second = (
        direct.topk(min(2, classes), 1).values.unbind(1) if classes > 1 else (direct[:, 0] + 1, direct[:, 0])
    )
    clear = first - second > 0.05
    assert torch.equal(result.argmax(1)[clear], direct.argmax(1)[clear])


def test_tau_zero_is_log_softmax_and_changes_no_prediction():
    logits = _logits(2, 5, 8, 8)
    result = scores(logits, _alignment(5), 0.0)
    assert torch.equal(result, logits.log_softmax(1))
    assert torch.equal(result.argmax(1), logits.argmax(1))


def test_rows_never_estimated_keep_their_probability():
    lookup, active = _alignment(4)
    active = active.clone()
    active[2] = False
    logits = _logits(1, 4, 8, 8)
    result = scores(logits, Alignment(lookup, active), 0.5)
    assert torch.equal(result[:, 2], logits.log_softmax(1)[:, 2])
    assert not torch.allclose(result[:, 1], logits.log_softmax(1)[:, 1])
    nothing = Alignment(lookup, torch.zeros_like(active))
    assert torch.equal(scores(logits, nothing, 0.5), logits.log_softmax(1))


def test_scores_of_a_pixel_depend_on_its_own_logits_only(monkeypatch):
    maps = _logits(2, 6, 5, 7)
    aligned = _alignment(6)
    whole = scores(maps, aligned, 0.3)
    vectors = maps.movedim(1, -1).reshape(-1, 6)
    # The last bit of an exponential may depend on the element's place in a block of vector instructions.
    torch.testing.assert_close(scores(vectors, aligned, 0.3), whole.movedim(1, -1).reshape(-1, 6))
    monkeypatch.setattr("blda.calibration.scores.scoring", lambda device: None)
    monkeypatch.setattr("blda.calibration.scores.ELEMENTS", 300)
    torch.testing.assert_close(scores(maps, aligned, 0.3), whole)


@pytest.mark.parametrize("shape", [(2, 5, 30, 47), (3, 5), (1, 5, 1, 1)])
def test_compiled_scores_equal_plain_torch(monkeypatch, shape):
    if scoring("cpu") is None:
        pytest.skip("needs numba")
    logits, aligned = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0)), _alignment(5)
    compiled = scores(logits, aligned, 0.4)
    monkeypatch.setattr("blda.calibration.scores.scoring", lambda device: None)
    torch.testing.assert_close(compiled, scores(logits, aligned, 0.4), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_give_the_scores_of_their_values(dtype):
    logits = _logits(1, 4, 6, 6).to(dtype)
    result = scores(logits, _alignment(4), 0.5)
    assert result.dtype == torch.float32
    assert torch.equal(result, scores(logits.float(), _alignment(4), 0.5))


@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_huge_logits_have_finite_scores_and_infinite_ones_stay_infinite(tau):
    logits = _logits(1, 4, 6, 6)
    assert scores(1e4 * logits, _alignment(4), tau).isfinite().all()
    logits[:, 2] = -torch.inf
    result = scores(logits, _alignment(4), tau)
    assert (result[:, 2] == -torch.inf).all()
    assert result[:, [0, 1, 3]].isfinite().all()


def test_predictor_returns_calibrated_scores_and_no_gradient():
    network = nn.Conv2d(3, 4, 1)
    calibration = Calibration(_alignment(4), 0.4, tuple("abcd"))
    image = torch.rand(1, 3, 6, 6)
    result = Predictor(network, calibration=calibration)(image)
    assert torch.equal(result, calibration(Predictor(network)(image)))
    assert not result.requires_grad


def test_saved_calibration_loads_unchanged(tmp_path):
    path = tmp_path / "sub" / "a.pt"
    saved = Calibration(_alignment(3), 0.25, ("road", "sky", "car"), {"network": "x.pt"})
    saved.save(path)
    loaded = Calibration.load(path, ["road", "sky", "car"])
    assert (loaded.tau, loaded.classes, loaded.origin) == (saved.tau, saved.classes, saved.origin)
    logits = _logits(1, 3, 4, 4)
    assert torch.equal(loaded(logits), saved(logits))
    assert list(path.parent.iterdir()) == [path]


def test_wrong_calibration_files_are_errors_of_one_line(tmp_path):
    path = tmp_path / "a.pt"
    Calibration(_alignment(3), 0.25, ("road", "sky", "car")).save(path)
    for classes, message in (
        (("road", "sky"), "a.pt calibrates 3 classes, the network has 2"),
        (("road", "car", "sky"), "'sky' where the network has 'car'"),
    ):
        with pytest.raises(ValueError, match=message):
            Calibration.load(path, classes)
    with pytest.raises(FileNotFoundError, match=r"no calibration file at .*b.pt"):
        Calibration.load(tmp_path / "b.pt", ("road",))
    broken = tmp_path / "broken.pt"
    broken.write_bytes(path.read_bytes()[:200])
    text = tmp_path / "text.pt"
    text.write_text("no calibration")
    other = tmp_path / "other.pt"
    torch.save({"student": {}}, other)
    code = tmp_path / "code.pt"
    torch.save({"format": FORMAT, "code": nn.Identity()}, code)
    axis = tmp_path / "axis.pt"
    torch.save({**torch.load(path, weights_only=True), "nodes": 2 * logit_grid.nodes()}, axis)
    partial = tmp_path / "partial.pt"
    torch.save({"format": FORMAT}, partial)
    for wrong in (broken, text, other, code, axis, partial):
        with pytest.raises(ValueError, match=rf"{wrong.name}.*blda calibrate") as error:
            Calibration.load(wrong, ("road", "sky", "car"))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("tau", [-0.1, float("nan"), float("inf")])
def test_tau_out_of_range_is_an_error(tau):
    with pytest.raises(ValueError, match="tau is"):
        Calibration(_alignment(2), tau, ("a", "b"))


def test_class_names_must_fit():
    with pytest.raises(ValueError, match=r"2 class names .* for 3 classes"):
        Calibration(_alignment(3), 0.1, ("a", "b"))


def _problem(seed: int, weak: float, pixels: int = 40_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Make Gaussian logits and labels of 5 imbalanced classes.

    weak: amount by which the last channel is too low, so that its class is under-predicted.
    """
    g = torch.Generator().manual_seed(seed)
    label = torch.multinomial(torch.tensor([8.0, 4, 2, 1, 1]), pixels, True, generator=g)
    logits = 2 * torch.randn(pixels, 5, generator=g) + 5 * torch.eye(5)[label]
    logits[:, 4] -= weak
    return logits.t()[None, :, :, None].contiguous(), label[None, :, None]


def test_an_under_predicted_class_and_the_mean_accuracy_gain():
    source = fit_statistics([_problem(1, 0)], 5)
    logits, label = _problem(2, 2)
    names = tuple("abcde")
    for labels in (logits.argmax(1), label):
        target = fit_statistics([(logits, labels)], 5)
        calibration = Calibration(alignment(target, source), 1.0, names)
        sweep = TauSweep(calibration, [0.0, 0.1, 0.5, 1.0], lambda: MeanIoU(names, [protocol_of(names)]))
        sweep.update(Sample(logits, label, ("x",), (0,)), logits, nn.Identity())
        result = list(sweep.scores().values())
        for key in ("mAcc", "acc/e"):
            gain = [after[key] - before[key] for before, after in itertools.pairwise(result)]
            assert min(gain) > 0, (key, gain)
        assert result[-1]["mAcc"] > result[0]["mAcc"] + 1.5
        assert abs(result[-1]["bias/e"]) < abs(result[0]["bias/e"])


def test_summed_histograms_do_not_depend_on_the_batches():
    logits, label = _problem(3, 1, 5000)
    label[:, :700] = IGNORE
    whole = fit_statistics([(logits, label)], 5)
    batches = zip(logits.split(1500, 2), label.split(1500, 1), strict=True)
    split = fit_statistics(list(batches)[::-1], 5)
    assert all(torch.equal(a, b) for a, b in zip(whole.buffers(), split.buffers(), strict=True))


def test_fitted_mixtures_have_the_mean_of_their_logits():
    logits, label = _problem(4, 1)
    for scale in (1, 10):
        statistics = fit_statistics([(scale * logits, label)], 5)
        mean = (statistics.weights * statistics.means).sum(-1)
        expected = torch.stack([scale * logits[0, :, label[0, :, 0] == c, 0].mean(1) for c in range(5)])
        torch.testing.assert_close(mean, expected, atol=0.02 * scale, rtol=0)


def test_a_class_without_pixels_is_not_corrected():
    logits, label = _problem(5, 1, 2000)
    label[label == 3] = IGNORE
    target = fit_statistics([(logits, label)], 5)
    assert alignment(target, target).active.tolist() == [True, True, True, False, True]
    empty = fit_statistics([], 5)
    assert not alignment(empty, target).active.any()
    assert not sampled_bias(empty, Calibration(alignment(empty, target), 1.0, tuple("abcde"))).any()


def test_sampled_bias_agrees_with_the_integral_and_shrinks_with_tau():
    target, source = fit_statistics([_problem(2, 2)], 5), fit_statistics([_problem(1, 0)], 5)
    plain = Calibration(alignment(target, source), 0.0, tuple("abcde"))
    torch.testing.assert_close(sampled_bias(target, plain).float(), target.bias(), atol=0.01, rtol=0)
    full = sampled_bias(target, dataclasses.replace(plain, tau=1.0))
    assert full.abs().max() < 0.5 * target.bias().abs().max()
    assert torch.equal(full, sampled_bias(target, dataclasses.replace(plain, tau=1.0)))
