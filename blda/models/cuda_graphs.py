"""Forward and backward of a network as CUDA graphs, for networks of so many small kernels that the host, which launches
them one by one, takes longer than the GPU.

A graph repeats what was launched while it was captured, on the same memory: the arithmetic is that of the network
itself, and random numbers are drawn from the generator's state at each replay. It needs inputs of one size and a
forward that decides nothing by what it computes or draws on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

Work = Callable[[], None]
WARM_UP = 3
"""Runs before a capture, in which libraries choose kernels and take their workspaces."""

MOST_SIZES = 3
"""Sizes of images that get graphs; others run as they are."""


class Recorder:
    """Captures work as graphs that share memory, and so are replayed in the order in which they were captured."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work) -> None:
        """Run the work on a stream of its own, as a capture will."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                work()
        torch.cuda.current_stream().wait_stream(side)

    def record(self, work: Work) -> Work:
        """Capture the work, which then has not run, as something that runs it."""
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as that which pins the next batch, may go on meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            work()
        return graph.replay


class GraphedTraining(nn.Module):
    """A network whose forward and backward are graphs.

    network: images (B, 3, H, W) -> a tensor, or tuples of tensors; its parameters are changed in place only. A forward
    is good until the next one, and for one backward. The gradients of several backwards add up, as they do elsewhere.
    """

    def __init__(self, network: nn.Module, recorder: Callable[[], Any] = Recorder) -> None:
        super().__init__()
        self.network, self._recorder = network, recorder
        self._passes: dict[tuple, _Pass] = {}

    def forward(self, image: Tensor) -> Any:
        key = (image.shape, image.stride(), image.dtype)
        if not torch.is_grad_enabled() or (key not in self._passes and len(self._passes) == MOST_SIZES):
            return self.network(image)
        if key not in self._passes:
            self._passes[key] = _Pass(self.network, image, self._recorder())
        return self._passes[key].run(image)


class GraphedInference:
    """What a module does without gradients, as a graph; its results are new tensors.

    module: whose buffers the work may change. work: image -> a tensor, or tuples and lists of tensors.
    """

    def __init__(
        self, module: nn.Module, work: Callable[[Tensor], Any], recorder: Callable[[], Any] = Recorder
    ) -> None:
        self._module, self._work, self._recorder = module, work, recorder
        self._recorded: dict[tuple, tuple[Tensor, list[Any], Work]] = {}

    def __call__(self, image: Tensor) -> Any:
        key = (image.shape, image.stride(), image.dtype)
        if key not in self._recorded and len(self._recorded) == MOST_SIZES:
            return self._work(image)
        if key not in self._recorded:
            self._recorded[key] = self._captured(image)
        static, result, replay = self._recorded[key]
        with torch.no_grad():
            static.copy_(image)
            replay()
            return tree_map(lambda value: value.clone() if isinstance(value, Tensor) else value, result[0])

    def _captured(self, image: Tensor) -> tuple[Tensor, list[Any], Work]:
        static, result, recorder = image.detach().clone(), [None], self._recorder()

        def work() -> None:
            result[0] = self._work(static)

        with torch.no_grad(), _undisturbed(self._module):
            recorder.warm_up(work)
            replay = recorder.record(work)
        return static, result, replay


def graph_inference(module: nn.Module) -> None:
    """Have a module that is never trained run as a graph."""
    module.forward = GraphedInference(module, module.forward)


class _Pass:
    """Forward and backward for images of one size, on memory of their own."""

    def __init__(self, network: nn.Module, image: Tensor, recorder: Any) -> None:
        self.network, self.image = network, image.detach().clone()
        self.leaves: list[Any] = []
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.outputs: list[Tensor] = []
        self.slopes: list[Tensor] = []
        self.sums: dict[int, Tensor] = {}
        # A backward reaches the parameters by the graph alone; autograd needs something to come from.
        self.anchor = torch.zeros((), device=image.device, requires_grad=True)
        with _undisturbed(network):
            recorder.warm_up(self._both)
            self.leaves, self.outputs = [], []  # what autograd made on the stream of the warm-up must not be used again
            self.replay_forward = recorder.record(self._forward)
            self.replay_backward = recorder.record(self._backward)

    def run(self, image: Tensor) -> Any:
        """The network's outputs."""
        self.image.copy_(image)
        found = iter(_Replay.apply(self.anchor, self))
        leaves = [next(found) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        return tree_unflatten(leaves, self.structure)

    def backward(self, slopes: tuple[Tensor, ...]) -> None:
        """Add to the parameters' gradients."""
        reached = [slope for slope, output in zip(slopes, self.outputs, strict=True) if output.requires_grad]
        for static, slope in zip(self.slopes, reached, strict=True):
            static.copy_(slope)
        self._begin_sums()
        self.replay_backward()

    def _both(self) -> None:
        self._forward()
        self._backward()

    def _forward(self) -> None:
        self.leaves, self.structure = tree_flatten(self.network(self.image))
        self.outputs = [leaf for leaf in self.leaves if isinstance(leaf, Tensor)]

    def _backward(self) -> None:
        reached = [output for output in self.outputs if output.requires_grad]
        self.slopes = self.slopes or [torch.zeros_like(output) for output in reached]
        slopes = torch.autograd.grad(reached, self.parameters, self.slopes, allow_unused=True)
        used = [number for number, slope in enumerate(slopes) if slope is not None]
        self.sums = self.sums or {number: torch.zeros_like(self.parameters[number]) for number in used}
        torch._foreach_add_([self.sums[number] for number in used], [slopes[number] for number in used])

    def _begin_sums(self) -> None:
        """Make the sums the parameters' gradients: from nothing after `zero_grad`, or from what is there."""
        fresh = []
        for number, total in self.sums.items():
            parameter = self.parameters[number]
            if parameter.grad is None:
                fresh.append(total)
            elif parameter.grad is not total:
                total.copy_(parameter.grad)
            parameter.grad = total
        if fresh:
            torch._foreach_zero_(fresh)


class _Replay(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: Tensor, one: _Pass) -> tuple[Tensor, ...]:
        one.replay_forward()
        ctx.one = one
        results = tuple(output.detach() for output in one.outputs)
        ctx.mark_non_differentiable(
            *(new for new, output in zip(results, one.outputs, strict=True) if not output.requires_grad)
        )
        return results

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[None, None]:
        ctx.one.backward(slopes)
        return None, None


@contextmanager
def _undisturbed(module: nn.Module) -> Iterator[None]:
    """The module's buffers and the generators are afterwards as they were."""
    kept = [buffer.clone() for buffer in module.buffers()]
    devices = [buffer.device for buffer in [*module.buffers(), *module.parameters()] if buffer.is_cuda][:1]
    with torch.random.fork_rng(devices):
        yield
    with torch.no_grad():
        for buffer, old in zip(module.buffers(), kept, strict=True):
            buffer.copy_(old)
