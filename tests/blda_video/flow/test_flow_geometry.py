import pytest
import torch

from blda_video.flow import flow_geometry

SHAPES = [(7, 9), (16, 33), (1, 5), (5, 1), (1, 1)]


def constant(u, v, height=12, width=15, batch=1):
    return torch.tensor([u, v], dtype=torch.float32)[None, :, None, None].expand(batch, 2, height, width).clone()


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", SHAPES)
def test_zero_flow_is_identity_and_inside(size):
    values = noise(2, 3, *size)
    flow = torch.zeros(2, 2, *size)
    torch.testing.assert_close(flow_geometry.warp(values, flow), values, atol=1e-5, rtol=1e-5)
    assert flow_geometry.inside(flow).all() and flow_geometry.consistent(flow, flow).all()


@pytest.mark.parametrize(("u", "v"), [(3, 0), (0, 2), (-4, 1), (2, -5)])
def test_integer_translation_is_an_exact_shift(u, v):
    values = noise(2, 3, 12, 15)
    expected, seen = torch.zeros_like(values), torch.zeros(12, 15, dtype=torch.bool)
    for i in range(12):
        for j in range(15):
            if 0 <= i + v < 12 and 0 <= j + u < 15:
                expected[..., i, j], seen[i, j] = values[..., i + v, j + u], True
    flow = constant(u, v, batch=2)
    torch.testing.assert_close(flow_geometry.warp(values, flow), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(flow_geometry.inside(flow), seen.expand(2, 12, 15))
    labels = torch.randint(0, 19, (2, 12, 15), generator=torch.Generator().manual_seed(0))
    warped = flow_geometry.warp_labels(labels, flow, 255)
    assert torch.equal(warped == 255, ~seen.expand(2, 12, 15))
    whole = flow_geometry.warp(labels[:, None].float(), flow)[:, 0].round().long()
    assert torch.equal(warped[:, seen], whole[:, seen])


def test_a_side_of_one_pixel_reads_nothing_from_outside():
    for size, step in (((5, 1), (2, 0)), ((1, 5), (0, 2))):
        flow = constant(*step, *size)
        assert not flow_geometry.inside(flow).any()
        assert not flow_geometry.warp(torch.ones(1, 1, *size), flow).any()


def test_warp_is_linear_and_samples_half_way():
    flow = 3 * noise(2, 2, 12, 15)
    a, b = noise(2, 3, 12, 15, seed=1), noise(2, 3, 12, 15, seed=2)
    both = flow_geometry.warp(2 * a - 3 * b, flow)
    torch.testing.assert_close(
        both, 2 * flow_geometry.warp(a, flow) - 3 * flow_geometry.warp(b, flow), atol=1e-4, rtol=1e-4
    )
    ramp = torch.arange(15.0).expand(1, 1, 12, 15)
    torch.testing.assert_close(flow_geometry.warp(ramp, constant(0.5, 0))[..., :-1], ramp[..., :-1] + 0.5)


def test_warp_keeps_the_type_of_the_values():
    flow = constant(0.25, 0)
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        assert flow_geometry.warp(torch.ones(1, 2, 12, 15, dtype=kind), flow).dtype == kind


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 3e38])
def test_unknown_and_huge_vectors_point_outside(bad):
    flow = torch.zeros(1, 2, 12, 15)
    flow[0, 0, 3, 4] = bad
    flow[0, 1, 5, 6] = bad
    expected = torch.ones(1, 12, 15, dtype=torch.bool)
    expected[0, 3, 4] = expected[0, 5, 6] = False
    zero = torch.zeros_like(flow)
    assert torch.equal(flow_geometry.inside(flow), expected)
    assert torch.equal(flow_geometry.consistent(flow, zero), expected)
    assert not flow_geometry.consistent(zero, flow)[~expected].any()
    warped = flow_geometry.warp(torch.ones(1, 3, 12, 15), flow)
    assert warped.isfinite().all() and not warped[:, :, ~expected[0]].any()
    assert torch.equal(flow_geometry.warp_labels(torch.ones(1, 12, 15, dtype=torch.long), flow, 255) == 255, ~expected)


def test_consistency_follows_the_formula():
    forward = constant(10.0, 0.0, 12, 40)
    # gap^2 < 0.01 (100 + b^2) + 0.5, gap = 10 + b: at b = -8.5, 2.25 < 2.2225 fails; at b = -8.6, 1.96 < 2.24 holds.
    assert not flow_geometry.consistent(forward, constant(-8.5, 0.0, 12, 40)).any()
    valid = flow_geometry.consistent(forward, constant(-8.6, 0.0, 12, 40))
    assert valid[..., :30].all() and not valid[..., 30:].any()


def test_every_known_point_is_valid_occluded_or_outside():
    forward, backward = 3 * noise(2, 2, 12, 15), 3 * noise(2, 2, 12, 15, seed=1)
    backward = torch.where(noise(2, 1, 12, 15, seed=2) > 0, backward, -forward)
    valid, hidden = flow_geometry.consistent(forward, backward), flow_geometry.occluded(forward, backward)
    assert torch.equal(valid | hidden, flow_geometry.inside(forward)) and not (valid & hidden).any()
    assert valid.any() and hidden.any() and torch.equal(flow_geometry.occluded(forward[1:], backward[1:]), hidden[1:])
    forward[:, 0, 2, 3], backward[:, 1] = torch.nan, torch.nan
    assert not flow_geometry.occluded(forward, backward).any() and not flow_geometry.consistent(forward, backward).any()


def test_what_a_nearer_thing_hides_is_occluded():
    # A wall stands still; a post of columns 5 to 7 moves three pixels to the right, over the wall of columns 8 to 10.
    post, later = torch.zeros(1, 1, 12, 15), torch.zeros(1, 1, 12, 15)
    post[..., 5:8], later[..., 8:11] = 1, 1
    motion = torch.tensor([3.0, 0.0])[None, :, None, None]
    expected = torch.zeros(1, 12, 15, dtype=torch.bool)
    expected[..., 8:11] = True
    assert torch.equal(flow_geometry.occluded(motion * post, -motion * later), expected)


def test_chained_flow_carries_what_two_steps_carry():
    values, first, second = noise(1, 3, 12, 15), constant(2.0, 1.0), constant(-3.0, 2.0)
    twice = flow_geometry.warp(flow_geometry.warp(values, second), first)
    chained = flow_geometry.chain(first, second)
    torch.testing.assert_close(flow_geometry.warp(values, chained)[..., 2:9, 1:13], twice[..., 2:9, 1:13])
    assert torch.equal(flow_geometry.chain(first, torch.zeros_like(first)).isnan(), chained.isnan())


def test_flip_negates_and_is_its_own_inverse():
    flow = noise(2, 3, 2, 12, 15)
    flipped = flow_geometry.flip(flow)
    assert torch.equal(flow_geometry.flip(flipped), flow)
    assert torch.equal(flipped[..., 0, :, 0], -flow[..., 0, :, -1])
    assert torch.equal(flipped[..., 1, :, 0], flow[..., 1, :, -1])


def test_warp_and_validity_commute_with_the_joint_flip():
    forward, backward = 2 * noise(2, 2, 12, 15), 2 * noise(2, 2, 12, 15, seed=1)
    backward = backward - forward
    values = noise(2, 3, 12, 15, seed=2)
    mirrored = flow_geometry.warp(values.flip(-1), flow_geometry.flip(forward))
    torch.testing.assert_close(mirrored, flow_geometry.warp(values, forward).flip(-1), atol=1e-4, rtol=1e-4)
    valid = flow_geometry.consistent(forward, backward)
    assert valid.any() and not valid.all()
    assert torch.equal(
        flow_geometry.consistent(flow_geometry.flip(forward), flow_geometry.flip(backward)), valid.flip(-1)
    )


@pytest.mark.parametrize("size", [(24, 30), (6, 15), (12, 45), (18, 10)])
def test_resize_scales_the_vectors_on_each_axis(size):
    resized = flow_geometry.resize(constant(3.0, -2.0, batch=2), size)
    torch.testing.assert_close(resized, constant(3.0 * size[1] / 15, -2.0 * size[0] / 12, *size, batch=2))


def test_resize_to_the_same_size_changes_nothing_with_any_axes():
    flow = noise(2, 3, 2, 12, 15)
    assert torch.equal(flow_geometry.resize(flow, (12, 15)), flow)
    together = flow_geometry.resize(flow, (7, 20))
    assert together.shape == (2, 3, 2, 7, 20)
    torch.testing.assert_close(together[1], flow_geometry.resize(flow[1], (7, 20)))


def test_crop_keeps_the_vectors_and_refuses_a_window_outside():
    flow = noise(2, 2, 12, 15)
    assert torch.equal(flow_geometry.crop(flow, 2, 3, 5, 7), flow[..., 2:7, 3:10])
    with pytest.raises(ValueError, match=r"5 x 7 at \(2, 9\)"):
        flow_geometry.crop(flow, 2, 9, 5, 7)


def test_chain_of_constant_flows_adds_and_is_unknown_outside():
    chained = flow_geometry.chain(constant(2.0, 1.0), constant(-0.5, 3.0))
    known = flow_geometry.inside(constant(2.0, 1.0))[0]
    torch.testing.assert_close(chained[..., known], constant(1.5, 4.0)[..., known])
    assert chained[..., ~known].isnan().all() and not known.all()


@pytest.mark.cuda
def test_the_gpu_agrees():
    values, flow = noise(2, 3, 12, 15), 3 * noise(2, 2, 12, 15, seed=1)
    flow[0, 0, 2, 2] = float("nan")
    warped = flow_geometry.warp(values.cuda(), flow.cuda()).cpu()
    torch.testing.assert_close(warped, flow_geometry.warp(values, flow), atol=1e-4, rtol=1e-4)
    assert torch.equal(flow_geometry.inside(flow.cuda()).cpu(), flow_geometry.inside(flow))
