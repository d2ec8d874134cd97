"""The benchmark of statistics over clips: it measures distances, and finds what is known to be nearer."""

from types import SimpleNamespace

import pytest
import torch

import smoothing
from blda.balance.logit_statistics import LogitStatistics
from blda.config.data_schema import Evaluation, Source, Target
from blda.config.method_schema import Blda, SelfTraining
from blda.config.schema import Model
from blda_video.clips.clip import Clip
from blda_video.config import VideoConfig

CLASSES = 2


def pixelwise(image):
    """Log-odds of class 1 are twice the first channel, as `clips` draws it."""
    score = 4 * image[:, :1] - 2
    return torch.cat((-score, score), 1)


def clips(count=4, size=48):
    for seed in range(count):
        g = torch.Generator().manual_seed(seed)
        truth = torch.randint(0, CLASSES, (1, size, size), generator=g)
        # Unit variance around -1 and 1, brought to [0, 1] or nearly: then 2 * score are the log-odds.
        image, other = ((torch.randn(1, size, size, generator=g) + 2 * truth - 1 + 2) / 4 for _ in range(2))
        pictures = [each[:, None].expand(1, 3, size, size) for each in (image, other)]
        flow, valid = torch.zeros(1, 1, 2, size, size), torch.ones(1, 1, size, size, dtype=torch.bool)
        yield Clip(pictures[0], truth, ("x",), (seed,), pictures[1][:, None], flow, valid, (-1,))


@pytest.fixture(scope="module")
def found():
    reader = {"name": "folder"}
    config = VideoConfig(
        "run",
        Model({}, {}),
        Source(reader),
        Target(reader),
        Evaluation(reader),
        classes=("ground", "object"),
        self_training=SelfTraining(threshold=0.9),
        blda=Blda(components=3, momentum=0.9, warmup=4, min_pixels=10),
        rule="none",
    )
    run = SimpleNamespace(
        config=config,
        accelerator=SimpleNamespace(device=torch.device("cpu")),
        data=SimpleNamespace(evaluation=lambda: list(clips())),
        batches=SimpleNamespace(frequency=None),
    )
    network = torch.nn.Module()
    network.forward = pixelwise
    return smoothing.measure(run, network, pixelwise, SimpleNamespace(batch=2, steps=[3, 8], scale=2.0))


def test_every_kind_is_measured_at_every_step_against_the_hard_one(found):
    assert found.keys() == {3, 8}
    for kinds in found.values():
        assert kinds["hard"]["smaller_percent"] == 0
        for numbers in kinds.values():
            smaller = 100 * (1 - numbers["all_cells"] / kinds["hard"]["all_cells"])
            assert numbers["smaller_percent"] == pytest.approx(smaller, abs=0.1)


def test_calibrated_probabilities_count_as_true_labels_do_classes_do_not(found):
    numbers = found[8]
    assert numbers["by_belief"]["all_cells"] < 0.6 * numbers["hard"]["all_cells"]
    assert numbers["by_belief"]["all_cells"] < numbers["true_labels"]["all_cells"] + 0.03
    assert numbers["hard"]["all_cells"] > 0.1


def test_distance_to_itself_is_small_and_to_a_shifted_one_known():
    logits = torch.randn(4, 1, 100, 100, generator=torch.Generator().manual_seed(0))
    statistics = LogitStatistics(1, components=1, momentum=0)
    labels = torch.zeros(4, 100, 100, dtype=torch.long)
    for _ in range(3):
        statistics.update(logits, labels)
    assert float(smoothing.distances(statistics, statistics.histogram(logits, labels))) < 0.02
    shifted = smoothing.distances(statistics, statistics.histogram(logits + 1, labels))
    assert float(shifted) == pytest.approx(0.383, abs=0.02)  # 2 Phi(1 / 2) - 1
