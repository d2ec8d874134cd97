"""Activation checkpointing: blocks keep only their input for the backward pass, and run again in it."""

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

    `blocks` finds the blocks, such as transformer blocks, residual blocks or inverted bottlenecks. Names of parameters
    do not change, and a deep copy of the network recomputes its own blocks.
    Raises ValueError for a network without blocks.
    """
    recomputed = list(blocks(network))
    if not recomputed:
        raise ValueError("training.checkpointing: the network has no blocks to recompute; set it to false")
    for block in recomputed:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=partial(_contexts, block))


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost blocks of a module, in order: items of its lists and sequences that have submodules."""
    for child in module.children():
        if isinstance(module, CONTAINERS) and not isinstance(child, CONTAINERS) and any(child.children()):
            yield child
        else:
            yield from blocks(child)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Return the contexts of a block's forward and of its recomputation."""
    return nullcontext(), _untracked(block)


@contextmanager
def _untracked(block: nn.Module) -> Iterator[None]:
    """Keep the running statistics of BatchNorm, which the forward of this batch has already updated."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
