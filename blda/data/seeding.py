"""Random numbers as a function of (seed, what, which): a resume needs no generator state."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


def seed_of(*keys: int | str) -> int:
    """A 63-bit seed that depends on every key and differs between neighbouring ones."""
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*keys: int | str) -> torch.Generator:
    """A CPU generator of its own for these keys, for example (seed, "classmix", draw number)."""
    return torch.Generator().manual_seed(seed_of(*keys))


def uniform(seed: int, what: str, draws: Sequence[int], count: int) -> torch.Tensor:
    """`count` numbers in [0, 1) for each draw: (len(draws), count) float32 on the CPU, row i a function of draw i."""
    return torch.stack([torch.rand(count, generator=generator(seed, what, draw)) for draw in draws])
