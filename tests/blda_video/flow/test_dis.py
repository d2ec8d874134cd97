import copy
import pickle

import cv2
import pytest
import torch

from blda_video.flow.dis import DIS
from blda_video.street_world.simulator.world import World


def picture(height=96, width=128, shift=0):
    noise = torch.rand(1, 3, height // 4, (width + 32) // 4, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(noise, size=(height, width + 32), mode="bicubic").clamp(0, 1)
    return smooth[..., 16 + shift : 16 + shift + width]


@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
def test_finds_a_translation(preset):
    flow = DIS(preset)(picture(), picture(shift=-3))
    assert flow.shape == (1, 2, 96, 128) and flow.dtype == torch.float32
    inner = flow[..., 16:-16, 16:-16]
    assert (inner[:, 0] - 3).abs().mean() < 0.3 and inner[:, 1].abs().mean() < 0.3


def test_depends_on_the_pair_alone():
    first = DIS()(picture(), picture(shift=-3))
    used = DIS()
    used(picture(64, 64), picture(64, 64, shift=5))
    assert torch.equal(used(picture(), picture(shift=-3)), first)
    pair = torch.cat((picture(shift=2), picture())), torch.cat((picture(shift=1), picture(shift=-3)))
    assert torch.equal(used(*pair)[1:], first)
    threads = cv2.getNumThreads()
    try:
        for count in (1, 3):
            cv2.setNumThreads(count)
            assert torch.equal(DIS()(picture(), picture(shift=-3)), first)
    finally:
        cv2.setNumThreads(threads)


def test_a_finer_search_is_more_exact():
    """Median end-point error between two frames of a street world, over points that are seen in both."""
    world = World("target", 3, (64, 128), 4)
    images = [torch.from_numpy(world.frame(t).image).permute(2, 0, 1)[None] / 255 for t in (1, 2)]
    flow, seen = (torch.from_numpy(each) for each in world.flow(1, 1))
    errors = [(DIS("medium", finest)(*images)[0] - flow).norm(dim=0)[seen].median() for finest in (2, 1, 0)]
    assert errors[2] < errors[1] < errors[0]
    assert torch.equal(DIS("medium", 1)(*images), DIS("medium")(*images))
    assert torch.equal(DIS("fast", 2)(*images), DIS("fast")(*images))


def test_travels_to_workers_after_use():
    estimator = DIS("fast")
    flow = estimator(picture(), picture(shift=1))
    for twin in (pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator)):
        assert twin.preset == "fast"
        assert torch.equal(twin(picture(), picture(shift=1)), flow)


def test_smallest_images_work_and_smaller_ones_are_refused():
    for size in ((32, 32), (32, 640), (640, 32)):
        for finest in (None, 0, 2):
            assert DIS("medium", finest)(torch.rand(1, 3, *size), torch.rand(1, 3, *size)).shape == (1, 2, *size)
    with pytest.raises(ValueError, match=r"31 x 64.*larger crop"):
        DIS()(torch.rand(1, 3, 31, 64), torch.rand(1, 3, 31, 64))


def test_bad_requests_name_the_fault():
    with pytest.raises(ValueError, match=r"'slow'.*medium"):
        DIS("slow")
    for finest in (-1, 3, 0.5, True):
        with pytest.raises(ValueError, match=f"finest is {finest} of DIS; use 0, 1 or 2"):
            DIS("fast", finest)
    with pytest.raises(ValueError, match="resize"):
        DIS()(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 48))


def test_flow_of_a_pair_does_not_depend_on_the_pairs_before():
    generator = torch.Generator().manual_seed(0)
    pairs = [torch.rand(2, 1, 3, 40, 40, generator=generator) for _ in range(4)]
    estimator = DIS("medium")
    in_order = [estimator(*pair) for pair in pairs]
    alone = [DIS("medium")(*pair) for pair in reversed(pairs)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(in_order, alone, strict=True))
