"""Fusion over a video: what it adds up, when it forgets, and that predictions get steadier on a street."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from blda_video.flow.dis import DIS
from blda_video.flow.flow_geometry import consistent, warp_labels
from blda_video.stream.fused_stream import FusedStream
from blda_video.street_world.simulator.world import World

SIZE = (40, 56)
CLASSES = 4


def _still(image: Tensor, neighbour: Tensor) -> Tensor:
    return torch.zeros(len(image), 2, *image.shape[-2:])


def _unknown(image: Tensor, neighbour: Tensor) -> Tensor:
    return torch.full((len(image), 2, *image.shape[-2:]), torch.nan)


def _logits(seed: int, size: tuple[int, int] = SIZE) -> Tensor:
    return 2 * torch.randn(1, CLASSES, *size, generator=torch.Generator().manual_seed(seed))


def _saying(*predictions: Tensor) -> Callable[[Tensor], Tensor]:
    """A network that says these, one after the other."""
    said = iter(predictions)
    return lambda image: next(said)


def _image(seed: int = 0, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))


def test_the_first_frame_is_what_the_network_says_bit_for_bit():
    found = FusedStream(_saying(_logits(1)), _still)(_image())
    assert torch.equal(found, _logits(1).log_softmax(1))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_a_static_video_is_the_weighted_geometric_mean_of_all_its_frames(decay):
    frames = [_logits(seed) for seed in range(4)]
    stream = FusedStream(_saying(*frames), _still, decay)
    found = [stream(_image()) for _ in frames][-1]
    frame_probabilities = [frame.softmax(1) for frame in frames]
    weights = [
        decay**age * probabilities.amax(1, keepdim=True)
        for age, probabilities in zip(range(3, -1, -1), frame_probabilities, strict=True)
    ]
    mean = sum(w * b.log() for w, b in zip(weights, frame_probabilities, strict=True)) / sum(weights)
    torch.testing.assert_close(found.exp(), mean.softmax(1), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(1, *SIZE))


def test_a_static_video_of_one_prediction_keeps_its_label():
    stream = FusedStream(lambda image: _logits(3), _still)
    for _ in range(5):
        found = stream(_image())
    assert torch.equal(found.argmax(1), _logits(3).argmax(1))
    torch.testing.assert_close(found, _logits(3).log_softmax(1), atol=1e-4, rtol=1e-4)


def test_without_known_flow_and_across_a_cut_frames_stay_alone():
    def at_random(image: Tensor, neighbour: Tensor) -> Tensor:
        return 30 * torch.randn(1, 2, *SIZE, generator=torch.Generator().manual_seed(int(1e6 * image[0, 0, 0, 0])))

    for flow in (_unknown, at_random):
        stream = FusedStream(_saying(_logits(1), _logits(2)), flow)
        stream(_image(0))
        assert torch.equal(stream(_image(1)), _logits(2).log_softmax(1)), flow.__name__


@pytest.mark.parametrize("change", ["reset", "size"])
def test_another_video_starts_anew(change):
    size = (34, 60) if change == "size" else SIZE
    stream = FusedStream(_saying(_logits(1), _logits(2, size), _logits(3, size)), _still)
    stream(_image())
    if change == "reset":
        stream.reset()
    assert torch.equal(stream(_image(0, size)), _logits(2, size).log_softmax(1))
    assert not torch.equal(stream(_image(0, size)), _logits(3, size).log_softmax(1)), "and goes on from there"


def test_what_moves_is_followed_and_what_appears_is_alone():
    wide = _image(5, (SIZE[0], SIZE[1] + 1))
    first, second = wide[..., 1:], wide[..., :-1]

    def shifted(image: Tensor, neighbour: Tensor) -> Tensor:
        """Everything moves one pixel to the right from frame to frame."""
        flow = torch.zeros(1, 2, *SIZE)
        flow[:, 0] = -1 if image is second else 1
        return flow

    stream = FusedStream(_saying(_logits(1), _logits(2)), shifted, 0.5)
    stream(first)
    found = stream(second)
    plain = _logits(2).log_softmax(1)
    assert torch.equal(found[..., 0], plain[..., 0]), "the column that came into sight"
    static = FusedStream(_saying(_logits(1)[..., :-1], _logits(2)[..., 1:]), _still, 0.5)
    expected = [static(second[..., 1:]) for _ in range(2)][-1]
    # Of the column beside it, the colours around do not all come from the frame before.
    torch.testing.assert_close(found[..., 2:], expected[..., 1:], atol=1e-4, rtol=1e-4)


def test_where_flow_leads_to_other_colours_the_past_counts_little():
    image, other = _image(), _image()
    other[..., 20:] = 1 - other[..., 20:].round()
    fused = [FusedStream(_saying(_logits(1), _logits(2)), _still) for _ in range(2)]
    same, changed = (
        [stream(each) for each in (image, second)][-1] for stream, second in zip(fused, (image, other), strict=True)
    )
    torch.testing.assert_close(changed[..., :19], same[..., :19], atol=1e-4, rtol=1e-4)
    own = _logits(2).log_softmax(1)
    share = ((changed - own).abs().amax(1) < 1e-3)[..., 20:].float().mean()
    assert share > 0.95
    assert ((same - own).abs().amax(1) < 1e-3).float().mean() < 0.05


def _drive(frames: int) -> Iterator[tuple[Tensor, Tensor, Tensor | None, Tensor | None]]:
    """Images of a street, their labels, and exact flow to and from the frame before."""
    world = World("target", 5, (48, 96), frames)
    for t in range(frames):
        frame = world.frame(t)
        image = torch.from_numpy(frame.image).permute(2, 0, 1)[None].float() / 255
        flows = (world.flow(t, -1)[0], world.flow(t - 1, 1)[0]) if t else ()
        to, back = (torch.from_numpy(flow).float()[None] for flow in flows) if t else (None, None)
        yield image, torch.from_numpy(frame.label).long()[None], to, back


def test_fusion_steadies_a_noisy_network_and_is_the_same_twice():
    drive = list(_drive(6))
    flows = {(id(drive[t][0]), id(drive[t - 1][0])): drive[t][2:] for t in range(1, len(drive))}

    def exact(image: Tensor, neighbour: Tensor) -> Tensor:
        pair = flows.get((id(image), id(neighbour)))
        return pair[0] if pair else flows[id(neighbour), id(image)][1]

    def predict(image: Tensor) -> Tensor:
        """The truth in loud noise."""
        t = next(i for i, each in enumerate(drive) if each[0] is image)
        truth = torch.nn.functional.one_hot(drive[t][1], 19).movedim(-1, 1)
        noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(t))
        return 3 * (truth + 0.5 * noise)

    def labels(stream: Callable[[Tensor], Tensor]) -> list[Tensor]:
        return [stream(image).argmax(1) for image, *_ in drive]

    def agreement(found: list[Tensor]) -> float:
        kept = total = 0
        for t in range(1, len(drive)):
            valid = consistent(*drive[t][2:])
            kept += int(((warp_labels(found[t - 1], drive[t][2], 255) == found[t]) & valid).sum())
            total += int(valid.sum())
        return kept / total

    def right(found: list[Tensor]) -> float:
        shares = [(labels == truth).float().mean() for labels, (_, truth, *_) in zip(found, drive, strict=True)]
        return float(torch.stack(shares).mean())

    plain, fused = labels(predict), labels(FusedStream(predict, exact))
    assert agreement(fused) > agreement(plain) + 0.05
    assert right(fused) > right(plain)
    assert all(torch.equal(a, b) for a, b in zip(fused, labels(FusedStream(predict, exact)), strict=True))
    live = labels(FusedStream(predict, DIS("ultrafast")))
    assert agreement(live) > agreement(plain)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_never_ends_is_an_error(decay):
    with pytest.raises(ValueError, match="decay"):
        FusedStream(_saying(), _still, decay)


def test_logits_of_another_size_are_an_error():
    with pytest.raises(ValueError, match="not of the image's size"):
        FusedStream(lambda image: _logits(0, (10, 14)), _still)(_image())
