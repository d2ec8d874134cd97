"""Learning rates that decay with an encoder layer's distance from the last one (layer-wise learning-rate decay)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import nn

from blda.models.activation_checkpointing import blocks

IsHead = Callable[[str], bool]
"""Name of a child of the encoder -> whether it starts at random on top of pretrained weights."""


def layer_factors(encoder: nn.Module, decay: float, is_head: IsHead = lambda name: False) -> dict[nn.Parameter, float]:
    """Return the factor of each parameter's learning rate: decay^(depth - i) in layer i of an encoder.

    Layer 0 is what comes before the first block: patch embedding, class token, positions, stem. Layer i is block i,
    from 1, of `blocks`: a transformer block, a residual block, an inverted bottleneck. depth is the number of blocks,
    so the last block has factor 1. What stands between two blocks, such as the norm of a stage and the patch embedding
    of the next, belongs to the block before it, and a norm at the end to the last one.

    is_head: says which children are no layers, such as a pyramid; their factor is 1.
    Raises ValueError for an encoder whose layers are in no list, so that their order is unknown.
    """
    trunk = [child for name, child in encoder.named_children() if not is_head(name)]
    numbers = {block: number for number, block in enumerate(_blocks(trunk), 1)}
    if len(numbers) < 2:
        raise ValueError(
            f"optimizer.layer_decay: the layers of {type(encoder).__name__} are in no list or sequence, so their order "
            "is unknown; set optimizer.layer_decay=1"
        )
    factors = {parameter: decay ** len(numbers) for parameter in encoder.parameters(recurse=False)}
    layer = 0
    for child in trunk:
        for module in child.modules():
            layer = numbers.get(module, layer)
            for parameter in module.parameters(recurse=False):
                factors.setdefault(parameter, decay ** (len(numbers) - layer))
    return {**dict.fromkeys(encoder.parameters(), 1.0), **factors}


def _blocks(trunk: list[nn.Module]) -> Iterator[nn.Module]:
    for child in trunk:
        yield from blocks(child)
