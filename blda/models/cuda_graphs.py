"""Forward and backward of a network as CUDA graphs, for networks of so many small kernels that the launches on the host
take longer than the work of the GPU.

A graph repeats the kernels that were launched during its capture, on the same memory. The arithmetic is that of the
network itself, and random numbers are drawn from the generator's state at each replay. All inputs of a graph must have
one size, and control flow of the forward must not depend on computed values or on random numbers drawn on the host.
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
"""Number of runs before a capture, in which libraries choose kernels and allocate their workspaces."""

MOST_SIZES = 3
"""Largest number of image sizes with graphs; images of further sizes run without."""


class Recorder:
    """Recorder of graphs that share memory, and must therefore be replayed in the order of their capture."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def warm_up(self, work: Work) -> None:
        """Run the work on a separate stream, as a capture does."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                work()
        torch.cuda.current_stream().wait_stream(side)

    def record(self, work: Work) -> Work:
        """Capture the work without running it, and return the function that runs it."""
        graph = torch.cuda.CUDAGraph()
        # Other threads, such as the one that pins the next batch, may use the GPU meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            work()
        return graph.replay


class GraphedTraining(nn.Module):
    """A network whose forward and backward are replayed as graphs.

    network: images (B, 3, H, W) -> a tensor, or tuples of tensors. Its parameters must be changed in place only.
    recorder: makes the recorder of the graphs of one image size.

    The output of a forward is valid until the next forward, and for one backward. Gradients of several backwards are
    added up, as without graphs.
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
    """Inference of a module as a graph, without gradients; its results are new tensors.

    module: module whose buffers the work may change.
    work: the inference, images -> a tensor, or tuples and lists of tensors.
    recorder: makes the recorder of the graph of one image size.
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
        """Capture the work for one image size; return its input, a list with its result, and the replay function."""
        static, result, recorder = image.detach().clone(), [None], self._recorder()

        def work() -> None:
            result[0] = self._work(static)

        with torch.no_grad(), _undisturbed(self._module):
            recorder.warm_up(work)
            replay = recorder.record(work)
        return static, result, replay


def graph_inference(module: nn.Module) -> None:
    """Replace the forward of a module that is never trained by a graph, in place."""
    module.forward = GraphedInference(module, module.forward)


class _Pass:
    """Graphs of forward and backward for images of one size, with their memory."""

    def __init__(self, network: nn.Module, image: Tensor, recorder: Any) -> None:
        self.network, self.image = network, image.detach().clone()
        self.leaves: list[Any] = []
        self.parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.outputs: list[Tensor] = []
        self.slopes: list[Tensor] = []
        self.sums: dict[int, Tensor] = {}
        # Gradients reach the parameters through the graph only; autograd needs an input that requires a gradient.
        self.anchor = torch.zeros((), device=image.device, requires_grad=True)
        with _undisturbed(network):
            recorder.warm_up(self._both)
            self.leaves, self.outputs = [], []  # what autograd made on the stream of the warm-up must not be used again
            self.replay_forward = recorder.record(self._forward)
            self.replay_backward = recorder.record(self._backward)

    def run(self, image: Tensor) -> Any:
        """Replay the forward, and return the network's outputs."""
        self.image.copy_(image)
        tensors = iter(_Replay.apply(self.anchor, self))
        leaves = [next(tensors) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        return tree_unflatten(leaves, self.structure)

    def backward(self, slopes: tuple[Tensor, ...]) -> None:
        """Replay the backward, which adds to the parameters' gradients; slopes: gradients by the outputs."""
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
        """Make the sums the gradients of the parameters, starting from their current gradients, or zero without one."""
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
    """Autograd function that replays the graphs of a `_Pass`."""

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
    """Restore the module's buffers and the states of the random generators afterwards."""
    kept = [buffer.clone() for buffer in module.buffers()]
    devices = [buffer.device for buffer in [*module.buffers(), *module.parameters()] if buffer.is_cuda][:1]
    with torch.random.fork_rng(devices):
        yield
    with torch.no_grad():
        for buffer, old in zip(module.buffers(), kept, strict=True):
            buffer.copy_(old)
