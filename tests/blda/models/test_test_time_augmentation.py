"""Sliding windows and flipping: averages equal a direct loop, and leave equivariant networks unchanged."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch import Tensor, nn

from blda.engine.inference import Predictor
from blda.models.test_time_augmentation import Flipped, Sliding

G = torch.Generator().manual_seed(0)


class Counted(nn.Module):
    """A network that records the shapes of its inputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.shapes = network, []

    def forward(self, image: Tensor) -> Tensor:
        self.shapes.append(tuple(image.shape))
        return self.network(image)


def _network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)).eval()


def _pointwise() -> nn.Module:
    torch.manual_seed(1)
    return nn.Conv2d(3, 4, 1).eval()


def _directly(network: nn.Module, image: Tensor, window: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """Compute mmsegmentation's slide mode by a loop over windows; the last of each side is moved inwards."""
    height, width = image.shape[-2:]
    h, w = (min(side, most) for side, most in zip((height, width), window, strict=True))
    total, count = torch.zeros(len(image), 4, height, width), torch.zeros(height, width)
    for i in range(max(height - h + stride[0] - 1, 0) // stride[0] + 1):
        for j in range(max(width - w + stride[1] - 1, 0) // stride[1] + 1):
            bottom, right = min(i * stride[0] + h, height), min(j * stride[1] + w, width)
            top, left = bottom - h, right - w
            total[:, :, top:bottom, left:right] += network(image[:, :, top:bottom, left:right])
            count[top:bottom, left:right] += 1
    return total / count


@pytest.mark.parametrize("size", [(32, 48), (30, 40), (1, 7)])
@torch.no_grad()
def test_an_image_that_fits_the_window_is_predicted_whole(size):
    network, image = _network(), torch.rand(2, 3, *size, generator=G)
    assert torch.equal(Sliding(network, (32, 48), (7, 9))(image), network(image))


@pytest.mark.parametrize("size", [(45, 61), (33, 48), (31, 90), (100, 20)])
@pytest.mark.parametrize("stride", [(32, 48), (16, 24), (5, 31)])
@torch.no_grad()
def test_windows_equal_a_direct_loop_for_any_batch(size, stride):
    network, image = _network(), torch.rand(2, 3, *size, generator=G)
    expected = _directly(network, image, (32, 48), stride)
    for batch in (1, 3, 100):
        torch.testing.assert_close(Sliding(network, (32, 48), stride, batch)(image), expected)


@torch.no_grad()
def test_windows_do_not_change_a_pointwise_network():
    network, image = _pointwise(), torch.rand(1, 3, 37, 53, generator=G)
    torch.testing.assert_close(Sliding(network, (16, 16), (7, 11), 4)(image), network(image))


@torch.no_grad()
def test_calls_have_at_most_batch_windows_of_one_size():
    network = Counted(_network())
    Sliding(network, (16, 64), (8, 8), 5)(torch.rand(2, 3, 40, 30, generator=G))
    assert {shape[1:] for shape in network.shapes} == {(3, 16, 30)}
    assert [shape[0] for shape in network.shapes] == [5, 3], "2 images of 4 windows"


@torch.no_grad()
def test_memory_is_one_logit_map_and_the_windows_of_a_call():
    sizes: list[int] = []

    class Heavy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.alive: set[int] = set()

        def forward(self, image: Tensor) -> Tensor:
            sizes.append(len(self.alive))
            logits = image.new_zeros(len(image), 4, *image.shape[2:])
            self.alive.add(id(logits))
            weakref.finalize(logits, self.alive.discard, id(logits))
            return logits

    Sliding(Heavy(), (8, 8), (4, 4), 1)(torch.rand(1, 3, 64, 64, generator=G))
    assert len(sizes) == 225
    assert max(sizes) <= 1, "windows that were added up are kept"


@torch.no_grad()
def test_flipping_does_not_change_an_equivariant_network():
    network, image = _pointwise(), torch.rand(2, 3, 9, 13, generator=G)
    # The last bit of a product may depend on the place in memory, which mirroring changes.
    torch.testing.assert_close(Flipped(network)(image), network(image))


@torch.no_grad()
def test_flipping_averages_and_makes_any_network_equivariant():
    network, image = _network(), torch.rand(2, 3, 9, 13, generator=G)
    result = Flipped(network)(image)
    torch.testing.assert_close(result, (network(image) + network(image.flip(-1)).flip(-1)) / 2)
    torch.testing.assert_close(Flipped(network)(image.flip(-1)).flip(-1), result)
    whole = nn.Sequential(network, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    torch.testing.assert_close(Flipped(whole)(image), (whole(image) + whole(image.flip(-1))) / 2)


@torch.no_grad()
def test_views_nest_and_calibration_gets_the_averaged_logits():
    network, image = _network().train(), torch.rand(1, 3, 25, 31, generator=G)
    view = Flipped(Sliding(network, (16, 16), (8, 8), 3))
    inputs = []
    scores = Predictor(view, calibration=lambda logits: inputs.append(logits) or logits.neg())(image)
    torch.testing.assert_close(inputs[0], view(image))
    assert torch.equal(scores, -inputs[0])
    assert network.training, "its mode is restored"
    torch.testing.assert_close(Predictor(Flipped(network.eval()))(image), Flipped(network)(image))
    assert not network.training


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (((0, 8), (1, 1), 1), "at least 1"),
        (((8, 8), (4, 4), 0), "at least 1"),
        (((8, 8), (4, 9), 1), "leaves gaps"),
    ],
)
def test_impossible_settings_are_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        Sliding(_network(), *settings)


@torch.no_grad()
def test_windows_of_a_classifier_are_an_error():
    network = nn.Sequential(_network(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match=r"leave evaluation.window out"):
        Sliding(network, (8, 8), (4, 4))(torch.rand(1, 3, 20, 20))
