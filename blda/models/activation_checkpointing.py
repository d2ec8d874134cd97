"""Gradient checkpointing: blocks that keep nothing for their backward but their input, and run again there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

CONTAINERS = (nn.ModuleList, nn.Sequential)


def checkpoint_activations(network: nn.Module) -> None:
    """Recompute the activations of every block of a network; losses and gradients stay the same, bit for bit.

    Blocks are what its lists and sequences are made of, if that has modules of its own: transformer blocks, residual
    blocks, inverted bottlenecks. Names of parameters do not change, and a copy of the network has blocks of its own.
    ValueError for a network without any.
    """
    result = list(blocks(network))
    if not result:
        raise ValueError("training.checkpointing: the network has no blocks to recompute; set it to false")
    for block in result:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=partial(_contexts, block))


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost ones, in order."""
    for child in module.children():
        if isinstance(module, CONTAINERS) and not isinstance(child, CONTAINERS) and any(child.children()):
            yield child
        else:
            yield from blocks(child)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """What surrounds a block the first and the second time."""
    return nullcontext(), _untracked(block)


@contextmanager
def _untracked(block: nn.Module) -> Iterator[None]:
    """BatchNorm has counted this batch the first time: its running statistics are written as they are."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
