"""Interface of propagation rules: a rule combines the probabilities of a clip's frames in its key frame (METHOD 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Combined:
    """Combined prediction for the key frames.

    probabilities: (B, C, H, W), sums to 1 over C; its likeliest class is the label.

    keep: (B, H, W) bool, pixels whose label is used in training; the others have weight 0.
    """

    probabilities: Tensor
    keep: Tensor


class Rule(Protocol):
    """Propagation rule, made by name from the config.

    needs_context: whether the rule uses the context; if not, the teacher does not predict those frames.
    """

    needs_context: bool

    def __call__(self, key: Tensor, warped: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        """Combine the probabilities of B clips with K context frames each.

        key: (B, C, H, W), the teacher's probabilities of the key frame. warped: (B, K, C, H, W), those of the context
        frames, warped to the key frame along the flow. valid: (B, K, H, W) bool, key pixels that context frame k sees;
        elsewhere `warped` means nothing. offset: K signed frame distances.

        Every rule guarantees three properties. The order of the context does not matter. Invalid pixels have no
        influence. An image that no context frame sees (K = 0, or no neighbour exists) keeps `key` bit for bit and keeps
        every pixel.
        """
        ...


def context_mean(key: Tensor, warped: Tensor, valid: Tensor) -> Tensor:
    """Mean (B, C, H, W) of the context's valid probabilities, `warped` itself for K = 1; `key` where none is valid.

    The published rules take one context frame. With several, they take this mean.
    """
    count = valid.sum(1, keepdim=True)
    total = torch.einsum("bkhw,bkchw->bchw", valid.to(warped.dtype), warped)
    return torch.where(count > 0, total / count.clamp(min=1), key)


def unless_unseen(keep: Tensor, valid: Tensor) -> Tensor:
    """Return `keep` (B, H, W), with every pixel added of images that no context frame sees at all."""
    return keep | ~valid.flatten(1).any(1)[:, None, None]


def everywhere(key: Tensor) -> Tensor:
    """Mask (B, H, W) of all pixels."""
    return torch.ones_like(key[:, 0], dtype=torch.bool)
