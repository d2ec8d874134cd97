"""Statistics that follow a stream: a drift of the logits is undone, and without evidence the prior decides."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blda.balance import logit_grid
from blda.balance.alignment import alignment
from blda.balance.logit_statistics import LogitStatistics
from blda.calibration.scores import scores
from blda_video.stream.adaptive_stream import AdaptiveStream, histograms

CLASSES, SIZE = 4, (48, 64)
WEAK = 3


def _frame(seed: int, drift: float = 0.0) -> tuple[Tensor, Tensor]:
    """Logits (1, C, H, W) of a frame, the class WEAK lower by `drift`, and its labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (1, *SIZE), generator=generator)
    logits = 4 * torch.nn.functional.one_hot(labels, CLASSES).movedim(-1, 1)
    logits = logits + 1.5 * torch.randn(1, CLASSES, *SIZE, generator=generator)
    logits[:, WEAK] -= drift
    return logits, labels


@pytest.fixture(scope="module")
def statistics() -> LogitStatistics:
    """Statistics of frames without drift, for both domains."""
    result = LogitStatistics(CLASSES, warmup=1)
    for seed in range(100, 108):
        result.update(*_frame(seed))
    return result


def _stream(statistics: LogitStatistics, **settings: float) -> AdaptiveStream:
    """A stream whose images are the network's logits."""
    return AdaptiveStream(lambda image: image, statistics, statistics, **settings)


def _recall(predicted: Tensor, labels: Tensor) -> float:
    return float((predicted.argmax(1) == WEAK)[labels == WEAK].float().mean())


def test_a_class_that_fades_during_the_video_is_brought_back(statistics):
    stream = _stream(statistics, tau=1.0)
    fixed = alignment(statistics, statistics)
    for t in range(12):
        logits, labels = _frame(t, drift=min(t / 4, 2.5))
        found = stream(logits)
    alone, once = _recall(logits, labels), _recall(scores(logits, fixed, 1.0), labels)
    assert once < alone + 0.05, "statistics of the time before the drift do not see it"
    assert _recall(found, labels) > alone + 0.1
    assert (found.argmax(1) == labels).float().mean() > (logits.argmax(1) == labels).float().mean()


def test_without_a_drift_hardly_anything_changes(statistics):
    stream = _stream(statistics)
    for t in range(4):
        logits, _ = _frame(t)
        assert (stream(logits).argmax(1) == logits.argmax(1)).float().mean() > 0.98


def test_a_strong_prior_is_the_calibration_of_the_checkpoint(statistics):
    stream, fixed = _stream(statistics, prior=1e6, tau=0.5), alignment(statistics, statistics)
    for t in range(3):
        logits, _ = _frame(t, drift=2)
        found = stream(logits)
    torch.testing.assert_close(found, scores(logits, fixed, 0.5), atol=0.1, rtol=0)


def test_no_strength_is_the_network_alone_bit_for_bit(statistics):
    logits, _ = _frame(0, drift=2)
    assert torch.equal(_stream(statistics, tau=0.0)(logits), logits.log_softmax(1))


def test_another_video_starts_anew_and_the_checkpoint_stays_as_it_is(statistics):
    before = {name: value.clone() for name, value in statistics.state_dict().items()}
    stream = _stream(statistics)
    first = [stream(_frame(t, 2)[0]) for t in range(3)]
    stream.reset()
    again = [stream(_frame(t, 2)[0]) for t in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in statistics.state_dict().items())


def test_a_class_never_estimated_is_left_alone():
    fresh = LogitStatistics(CLASSES, warmup=1)
    logits, labels = _frame(0)
    fresh.update(logits, torch.where(labels == WEAK, 255, labels))
    found = _stream(fresh, tau=1.0)(logits)
    assert torch.equal(found[:, WEAK], logits.log_softmax(1)[:, WEAK])


def test_histograms_hold_one_pixel_a_cell_at_the_mixtures_mean(statistics):
    counts = histograms(statistics)
    torch.testing.assert_close(counts.sum(-1), torch.ones(CLASSES, CLASSES).double())
    mean = (statistics.weights * statistics.means).sum(-1).double()
    torch.testing.assert_close(counts @ logit_grid.nodes().double(), mean, atol=0.01, rtol=0)


def test_settings_out_of_range_and_empty_anchors_are_refused(statistics):
    for wrong in ({"memory": 1.0}, {"tau": -1.0}, {"prior": 0.0}):
        with pytest.raises(ValueError, match="use a memory in"):
            _stream(statistics, **wrong)
    with pytest.raises(ValueError, match="anchors were never estimated"):
        _stream(LogitStatistics(CLASSES))
