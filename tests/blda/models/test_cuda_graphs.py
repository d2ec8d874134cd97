"""CUDA graphs of networks; on a CPU, a recorder that runs the work again stands for the graphs."""

import copy
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from blda.models.cuda_graphs import GraphedInference, GraphedTraining


class Again:
    """A substitute for `Recorder` whose replay runs the work again."""

    def warm_up(self, work):
        for _ in range(2):
            work()

    def record(self, work):
        work()
        return torch.enable_grad()(work)


class Both(NamedTuple):
    logits: Tensor
    nothing: None
    inner: Tensor
    fixed: Tensor


class Network(nn.Module):
    """A network with BatchNorm, dropout, an unused parameter, and an output without gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)
        self.drop, self.unused = nn.Dropout(0.3), nn.Parameter(torch.ones(2))

    def forward(self, image: Tensor) -> Both:
        inner = self.norm(self.first(image)).relu()
        return Both(self.last(self.drop(inner)), None, inner, image.detach() * 2)


def _train(network: nn.Module, called: nn.Module, steps: int = 3) -> list[Tensor]:
    optimizer, losses = torch.optim.SGD(network.parameters(), lr=0.1), []
    g = torch.Generator().manual_seed(1)
    for step in range(steps):
        torch.manual_seed(step)
        for factor in (1.0, 2.0):  # two backwards a step; the first does not use all outputs
            output = called(torch.rand(2, 3, 9, 8, generator=g))
            loss = factor * output.logits.square().mean() + (output.inner * output.fixed.mean()).mean() * (factor > 1)
            loss.backward()
            losses.append(loss.detach().clone())
        optimizer.step()
        optimizer.zero_grad()
    return losses


def test_training_with_graphs_is_equal_bit_for_bit():
    torch.manual_seed(0)
    one = Network()
    other = copy.deepcopy(one)
    expected = _train(one, one)
    losses = _train(other, GraphedTraining(other, Again))
    assert all(torch.equal(a, b) for a, b in zip(losses, expected, strict=True))
    for (name, own), (_, right) in zip(other.state_dict().items(), one.state_dict().items(), strict=True):
        assert torch.equal(own, right), name
    assert other.unused.grad is None


def test_existing_gradients_are_added_to():
    torch.manual_seed(0)
    one = Network().eval()
    other = copy.deepcopy(one)
    graphed, image = GraphedTraining(other, Again), torch.rand(1, 3, 5, 5)
    for network, called in ((one, one), (other, graphed)):
        network.last.weight.square().sum().backward()
        called(image).logits.sum().backward()
    assert torch.equal(one.last.weight.grad, other.last.weight.grad)


def test_inference_returns_new_tensors_and_counts_batches_once():
    torch.manual_seed(0)
    network = Network()
    network.drop.eval()
    other = copy.deepcopy(network)
    graphed = GraphedInference(other, torch.no_grad()(other.forward), Again)
    images = [torch.rand(2, 3, 6, 6) for _ in range(3)]
    outputs = [graphed(image) for image in images]
    for image, own in zip(images, outputs, strict=True):
        right = network(image)
        assert torch.equal(own.logits, right.logits)
        assert own.nothing is None
    assert torch.equal(network.norm.running_mean, other.norm.running_mean)


def test_images_of_too_many_sizes_run_without_graphs():
    network = Network()
    graphed = GraphedTraining(network, Again)
    for size in range(4, 10):
        assert graphed(torch.rand(2, 3, size, size)).logits.shape[-1] == size - 2
        network.zero_grad()


@pytest.mark.cuda
def test_training_with_graphs_on_a_gpu_equals_that_without():
    torch.manual_seed(0)
    one = Network().cuda()
    other = copy.deepcopy(one)
    expected = _train(one, _OnGPU(one))
    losses = _train(other, _OnGPU(GraphedTraining(other)))
    torch.testing.assert_close(losses, expected, atol=1e-5, rtol=1e-4)
    for own, right in zip(other.state_dict().values(), one.state_dict().values(), strict=True):
        torch.testing.assert_close(own, right, atol=1e-4, rtol=1e-3)


class _OnGPU(nn.Module):
    def __init__(self, called: nn.Module) -> None:
        super().__init__()
        self.called = called

    def forward(self, image: Tensor) -> Both:
        return self.called(image.cuda())
