import dataclasses
import math

import pytest
import torch

from blda.data.protocols import Protocol, protocol_of
from blda.data.sample import IGNORE, Sample
from blda_video.clips.clip import Clip
from blda_video.flow.flow_geometry import consistent
from blda_video.street_world.simulator.world import World
from blda_video.temporal_metrics import TemporalConsistency

NAMES = ("road", "sky", "car")
ALL = protocol_of(NAMES)


def pixelwise(image):
    """Class of a pixel = its brightest channel."""
    return image


def clip(offset=(-1,), batch=2, height=10, width=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count = len(offset)
    return Clip(
        image=torch.rand(batch, 3, height, width, generator=generator),
        label=torch.randint(0, 3, (batch, height, width), generator=generator),
        name=("a",) * batch,
        draw=torch.arange(batch),
        context=torch.rand(batch, count, 3, height, width, generator=generator),
        flow=2 * torch.randn(batch, count, 2, height, width, generator=generator),
        valid=torch.rand(batch, count, height, width, generator=generator) > 0.3,
        offset=offset,
    )


changed = dataclasses.replace


def measured(*clips, predict=pixelwise, protocols=(ALL,)):
    metric = TemporalConsistency(NAMES, protocols)
    for sample in clips:
        metric.update(sample, predict(sample.image), predict)
    return metric


def painted(*rows):
    """One-hot images (1, 3, 1, W) of classes, one each row."""
    return [torch.nn.functional.one_hot(torch.tensor(row), 3).T[None, :, None].float() for row in rows]


def standing(key, context, offset, label=None, valid=True):
    """A clip of one row of pixels that do not move."""
    image, *others = painted(key, *context)
    width = len(key)
    return Clip(
        image=image,
        label=None if label is None else torch.tensor(label)[None, None],
        name=("a",),
        draw=(0,),
        context=torch.stack(others, 1),
        flow=torch.zeros(1, len(offset), 2, 1, width),
        valid=torch.full((1, len(offset), 1, width), valid) if isinstance(valid, bool) else valid,
        offset=offset,
    )


def test_a_moving_scene_is_fully_consistent():
    still = clip()
    moved = torch.roll(still.image, shifts=(1, -2), dims=(2, 3))
    flow = torch.tensor([-2.0, 1.0])[None, None, :, None, None].expand_as(still.flow).clone()
    valid = torch.ones_like(still.valid)
    numbers = measured(changed(still, context=moved[:, None], flow=flow, valid=valid)).compute()
    assert numbers["consistency"] == numbers["temporal_mIoU"] == 100
    # Copied without motion, the same frames disagree.
    assert measured(changed(still, context=moved[:, None], flow=0 * flow, valid=valid)).compute()["consistency"] < 60


def test_counts_follow_the_definition():
    sample = clip((-1, 1), batch=1)
    sample.label[0, :3] = IGNORE
    expected = torch.zeros(3, 3, 3, dtype=torch.float64)
    for i in range(10):
        for j in range(12):
            key, seen = sample.image[0, :, i, j].argmax(), []
            for k in range(2):
                u, v = sample.flow[0, k, :, i, j].tolist()
                x, y = round(j + u), round(i + v)
                if sample.valid[0, k, i, j] and 0 <= x < 12 and 0 <= y < 10:
                    seen.append(sample.context[0, k, :, y, x].argmax())
                    expected[0, key, seen[-1]] += 1
                    if key == seen[-1] and sample.label[0, i, j] != IGNORE:
                        expected[1, sample.label[0, i, j], key] += 1
            if len(seen) == 2 and seen[0] == seen[1]:
                expected[2, seen[0], key] += 1
    metric = measured(sample)
    assert torch.equal(metric.counts, expected) and all(table.any() for table in expected)
    pairs, right, around = expected
    scores, agreed = metric.compute(), pairs.diag()
    iou = agreed / (pairs.sum(0) + pairs.sum(1) - agreed)
    assert math.isclose(scores["consistency"], 100 * agreed.sum() / pairs.sum())
    assert math.isclose(scores["temporal_mIoU"], 100 * iou.mean())
    assert math.isclose(scores["flicker"], 100 * (1 - around.diag().sum() / around.sum()))
    assert math.isclose(scores["M5"], ALL.scores(right, NAMES)["mIoU"])


def test_a_hand_made_row():
    #                key                before              after
    rows = ([0, 0, 1, 1, 2, 2], [[0, 1, 1, 0, 2, 0], [0, 1, 0, 0, 2, 1]])
    metric = measured(standing(*rows, (-1, 1), label=[0, 0, 1, 1, 1, 255]))
    assert metric.counts[0].tolist() == [[2, 2, 0], [3, 1, 0], [1, 1, 2]]
    assert metric.counts[1].tolist() == [[2, 0, 0], [0, 1, 2], [0, 0, 0]]
    # Of six pixels, before and after say the same of four (0, 1, 0, 2), and the key otherwise of two (0 -> 1, 1 -> 0).
    assert metric.counts[2].tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 1]]
    scores = metric.compute()
    assert scores["flicker"] == 50 and scores["flicker/road"] == 50
    assert scores["flicker/sky"] == 100 and scores["flicker/car"] == 0
    assert [scores[f"consistency/{name}"] for name in NAMES] == [50, 25, 50]
    assert [scores[f"temporal_iou/{name}"] for name in NAMES] == pytest.approx([25, 100 / 7, 50])
    assert (scores["M5/road"], scores["M5/sky"], scores["M5/car"]) == (100, pytest.approx(100 / 3), 0)


def test_a_change_that_stays_is_inconsistent_but_does_not_flicker():
    sample = standing([1, 0], [[0, 0], [1, 0]], (-1, 1))
    assert measured(sample).compute()["flicker"] == 0
    assert measured(sample).compute()["consistency"] == 75


def test_flicker_takes_frames_in_order_of_time():
    # 0 1 0 1 in time; the key is the last, and the offsets come in any order.
    sample = standing([1], [[0], [1], [0]], (-1, -2, -3))
    assert measured(sample).counts[2].tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    turned = standing([1], [[1], [0], [0]], (-2, -3, -1))
    assert torch.equal(measured(turned).counts, measured(sample).counts)


def test_flicker_needs_two_neighbours_that_see_the_pixel():
    assert math.isnan(measured(standing([1, 1], [[0, 0]], (-1,))).compute()["flicker"])
    valid = torch.tensor([[True, False], [True, True]])[None, :, None]
    sample = standing([1, 1], [[0, 0], [0, 0]], (-1, 1), valid=valid)
    assert measured(sample).counts[2].sum() == 1


def test_m5_counts_labelled_consistent_pixels_by_each_protocol():
    merged = Protocol("merged", ("road", "sky"), merge={"car": "sky"})
    sample = standing([0, 1, 2, 2], [[0, 1, 2, 0]], (-1,), label=[0, 2, 2, 0])
    scores = measured(sample, protocols=(merged, ALL)).compute()
    assert scores["M5"] == scores["merged/M5"] == 100 == scores["M5/sky"] == scores["merged/M5/sky"]
    assert scores["all/M5"] == 50 and scores["all/M5/car"] == 50 and "M5/car" not in scores
    unlabelled = measured(changed(sample, label=None))
    assert not unlabelled.counts[1].any() and unlabelled.counts[0].any()


def test_a_label_of_another_size_is_scored_at_its_size():
    sample = clip()
    large = sample.label.repeat_interleave(2, 1).repeat_interleave(2, 2)

    def flat(image):
        """Constant over the image, so that enlarging changes nothing."""
        return image.mean((2, 3), keepdim=True).expand_as(image).contiguous()

    small, big = (measured(changed(sample, label=label), predict=flat) for label in (sample.label, large))
    assert torch.equal(4 * small.counts[1], big.counts[1]) and small.counts[1].any()


@pytest.fixture(scope="module")
def drive():
    """A frame of a street world with its neighbours at -1 and 1, images in three classes of its labels, exact flow."""
    world = World("target", 3, (48, 96), 5)
    kinds = torch.arange(19) % 3
    labels = [kinds[torch.from_numpy(world.frame(t).label).long()] for t in (1, 2, 3)]
    images = [torch.nn.functional.one_hot(label, 3).permute(2, 0, 1)[None].float() for label in labels]
    flows = [torch.from_numpy(world.flow(2, offset)[0])[None] for offset in (-1, 1)]
    back = [torch.from_numpy(world.flow(2 + offset, -offset)[0])[None] for offset in (-1, 1)]
    valid = [consistent(*pair) for pair in zip(flows, back, strict=True)]
    context = torch.stack((images[0], images[2]), 1)
    names = {"name": ("a",), "draw": (0,), "offset": (-1, 1)}
    return Clip(
        image=images[1],
        label=labels[1][None],
        context=context,
        flow=torch.stack(flows, 1),
        valid=torch.stack(valid, 1),
        **names,
    )


def test_a_perfect_prediction_on_exact_flow(drive):
    scores = measured(drive).compute()
    assert scores["M5"] == 100
    # Up to the nearest pixel at edges of things.
    assert scores["consistency"] > 97 and scores["flicker"] < 1
    constant = measured(
        drive, predict=lambda image: torch.tensor([1.0, 0, 0])[:, None, None].expand_as(image)
    ).compute()
    assert constant["consistency"] == 100 and constant["flicker"] == 0 and constant["M5"] < 40
    noise = torch.Generator().manual_seed(0)
    noisy = measured(drive, predict=lambda image: image + torch.randn(image.shape, generator=noise)).compute()
    assert noisy["flicker"] > 20 and noisy["consistency"] < 70 and 40 < noisy["M5"] < 100


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
    scores = measured(constant).compute()
    assert scores["consistency"] == scores["temporal_mIoU"] == 100
    assert scores["consistency/road"] == 100 and math.isnan(scores["consistency/sky"])


def test_without_anything_to_compare_the_numbers_are_nan():
    sample = clip()
    unseen = changed(sample, valid=torch.zeros_like(sample.valid))
    image = Sample(sample.image, None, sample.name, sample.draw)
    keys = measured(sample).compute().keys()
    for metric in (measured(), measured(unseen), measured(image), measured(clip(()))):
        assert not metric.counts.any()
        assert all(math.isnan(value) for key, value in metric.compute().items() if not key.endswith("_classes"))
        assert metric.compute().keys() == keys


def test_logits_of_another_size_are_brought_to_the_flow():
    sample = clip()

    def coarse(image):
        return torch.nn.functional.avg_pool2d(image, 2)

    metric = measured(sample, predict=coarse)
    assert metric.counts[0].sum() == measured(sample).counts[0].sum() > 0
