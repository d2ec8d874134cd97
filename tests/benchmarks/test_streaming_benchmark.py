"""benchmarks/streaming_calibration.py and unlabelled_choice.py: looks, streams and summaries that can be checked."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from blda.calibration.unlabelled_criteria import CRITERIA
from changing_looks import LOOKS, amount, changed
from streaming_calibration import Streams
from unlabelled_choice import MEASURED, compared


def test_a_drive_starts_clear_and_ends_changed_and_noise_depends_on_the_seed_alone():
    image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    shares = [amount(t, 30) for t in range(30)]
    assert shares[:10] == [0] * 10 and shares[20:] == [1] * 10 and shares == sorted(shares)
    for look in LOOKS:
        assert np.array_equal(changed(image, look, 0, 1), image)
        late = changed(image, look, 1, 1)
        assert np.array_equal(late, changed(image, look, 1, 1))
        assert np.array_equal(late, image) == (look == "clear")
    assert changed(image, "dusk", 1, 1).mean() < 0.7 * image.mean()


def test_streams_predict_a_frame_once_and_fusion_takes_the_stream_of_its_name():
    calls = []

    def predict(image):
        calls.append(image)
        return torch.randn(1, 3, *image.shape[-2:], generator=torch.Generator().manual_seed(len(calls)))

    streams = Streams(predict)
    streams.streams["doubled"] = lambda image: 2 * streams.latest(image)
    for name in ("alone", "doubled"):
        streams.fused(name)
    first = streams(torch.rand(1, 3, 32, 48))
    assert len(calls) == 1
    assert list(first) == ["alone", "doubled", "alone + fusion", "doubled + fusion"]
    torch.testing.assert_close(first["alone + fusion"], first["alone"])
    torch.testing.assert_close(first["doubled + fusion"], first["doubled"].log_softmax(1))


def test_a_criterion_that_agrees_with_the_measured_score_loses_nothing():
    rows = [
        {**dict.fromkeys(CRITERIA), "step": step, "information": value, "entropy": value, MEASURED: value}
        for step, value in ((1, 10.0), (2, 30.0), (3, 20.0))
    ]
    assert compared("information", rows) == (pytest.approx(1), 0)
    assert compared("entropy", rows) == (pytest.approx(-1), 20)
    assert compared("step", rows) == (pytest.approx(0.5), 10)
    assert compared("bias_spread", rows) is None
    assert compared("score", rows)[1] == 0
    assert not math.isnan(compared("score", rows)[0])
