import math

import torch

from blda.data.sample import Sample
from blda_video.data.sample import Clip
from blda_video.metrics import TemporalConsistency

NAMES = ("road", "sky", "car")


def pixelwise(image):
    """Class of a pixel = its brightest channel."""
    return image


def clip(offset=(-1,), batch=2, height=10, width=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count = len(offset)
    return Clip(
        image=torch.rand(batch, 3, height, width, generator=generator),
        label=None,
        name=("a",) * batch,
        draw=torch.arange(batch),
        context=torch.rand(batch, count, 3, height, width, generator=generator),
        flow=2 * torch.randn(batch, count, 2, height, width, generator=generator),
        valid=torch.rand(batch, count, height, width, generator=generator) > 0.3,
        offset=offset,
    )


def changed(old, **values):
    return Clip(**{**old.__dict__, **values})


def measured(*clips, predict=pixelwise):
    metric = TemporalConsistency(NAMES)
    for sample in clips:
        metric.update(sample, predict(sample.image), predict)
    return metric


def test_a_moving_scene_is_fully_consistent():
    still = clip()
    moved = torch.roll(still.image, shifts=(1, -2), dims=(2, 3))
    flow = torch.tensor([-2.0, 1.0])[None, None, :, None, None].expand_as(still.flow).clone()
    valid = torch.ones_like(still.valid)
    numbers = measured(changed(still, context=moved[:, None], flow=flow, valid=valid)).compute()
    assert numbers == {"consistency": 100.0, "temporal_mIoU": 100.0}
    # Copied without motion, the same frames disagree.
    assert measured(changed(still, context=moved[:, None], flow=0 * flow, valid=valid)).compute()["consistency"] < 60


def test_counts_follow_the_definition():
    sample = clip((-1, 1), batch=1)
    expected = torch.zeros(3, 3, dtype=torch.float64)
    for k in range(2):
        for i in range(10):
            for j in range(12):
                u, v = sample.flow[0, k, :, i, j].tolist()
                x, y = round(j + u), round(i + v)
                if sample.valid[0, k, i, j] and 0 <= x < 12 and 0 <= y < 10:
                    key, other = sample.image[0, :, i, j].argmax(), sample.context[0, k, :, y, x].argmax()
                    expected[key, other] += 1
    metric = measured(sample)
    assert torch.equal(metric.counts, expected)
    agreed = expected.diag()
    iou = agreed / (expected.sum(0) + expected.sum(1) - agreed)
    assert math.isclose(metric.compute()["consistency"], 100 * agreed.sum() / expected.sum())
    assert math.isclose(metric.compute()["temporal_mIoU"], 100 * iou.mean())


def test_counts_add_up_over_batches():
    whole = clip((-1, 1))
    halves = [
        Clip(**{k: v[b : b + 1] if isinstance(v, torch.Tensor) else v for k, v in whole.__dict__.items()})
        for b in range(2)
    ]
    assert torch.equal(measured(whole).counts, measured(*halves).counts)
    assert torch.equal(measured(halves[0]).counts + measured(halves[1]).counts, measured(whole).counts)


def test_classes_that_are_never_predicted_do_not_count():
    sample = clip()
    flat = torch.zeros_like(sample.image)
    flat[:, 0] = 1
    constant = changed(sample, image=flat, context=flat[:, None], valid=torch.ones_like(sample.valid))
    assert measured(constant).compute() == {"consistency": 100.0, "temporal_mIoU": 100.0}


def test_without_anything_to_compare_the_numbers_are_nan():
    sample = clip()
    unseen = changed(sample, valid=torch.zeros_like(sample.valid))
    image = Sample(sample.image, None, sample.name, sample.draw)
    for metric in (measured(), measured(unseen), measured(image), measured(clip(()))):
        assert not metric.counts.any()
        assert all(math.isnan(value) for value in metric.compute().values())
        assert metric.compute().keys() == {"consistency", "temporal_mIoU"}


def test_logits_of_another_size_are_brought_to_the_flow():
    sample = clip()

    def coarse(image):
        return torch.nn.functional.avg_pool2d(image, 2)

    metric = measured(sample, predict=coarse)
    assert metric.counts.sum() == measured(sample).counts.sum() > 0
