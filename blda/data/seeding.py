"""Random numbers as a function of keys (seed, purpose, number): a resume needs no generator state."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


def seed_of(*keys: int | str) -> int:
    """Hash the keys to a 63-bit seed; seeds of neighbouring keys are unrelated."""
    digest = hashlib.blake2b(repr(keys).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(*keys: int | str) -> torch.Generator:
    """Build a new CPU generator seeded by these keys, for example (seed, "classmix", draw number)."""
    return torch.Generator().manual_seed(seed_of(*keys))


def uniform(seed: int, what: str, draws: Sequence[int], count: int) -> torch.Tensor:
    """Generate `count` numbers in [0, 1) per draw: (len(draws), count) float32 on the CPU, row i from draw i."""
    return torch.stack([torch.rand(count, generator=generator(seed, what, draw)) for draw in draws])
