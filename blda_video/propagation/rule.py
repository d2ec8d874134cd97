"""What a propagation rule is: how the beliefs about a clip become the belief about its key frame (METHOD 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Combined:
    """probabilities: (B, C, H, W), sums to 1 over C; its likeliest class is the label.

    keep: (B, H, W) bool, pixels whose label may be learnt from; the others weigh nothing.
    """

    probabilities: Tensor
    keep: Tensor


class Rule(Protocol):
    """How beliefs combine; made by name from the config.

    needs_context: whether it looks at the context at all; if not, the teacher need not see those frames.
    """

    needs_context: bool

    def __call__(self, key: Tensor, warped: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        """Combine the beliefs about B clips of K context frames.

        key: (B, C, H, W), the teacher's belief about the key frame. warped: (B, K, C, H, W), its beliefs about the
        context frames, pulled to the key frame along the flow. valid: (B, K, H, W) bool, key pixels that context frame
        k sees; elsewhere `warped` means nothing. offset: K signed frame distances.

        Every rule promises: the order of the context does not matter; what is invalid has no influence; an image of
        which no context frame sees anything (K = 0, or no neighbour exists) keeps `key` bit for bit and every pixel,
        as missing evidence is none against it.
        """
        ...


def context_mean(key: Tensor, warped: Tensor, valid: Tensor) -> Tensor:
    """The mean of the context's valid beliefs (B, C, H, W), which for K = 1 is `warped`; `key` where none is valid.

    The published rules know one context frame. This is what they see of several.
    """
    count = valid.sum(1, keepdim=True)
    total = torch.einsum("bkhw,bkchw->bchw", valid.to(warped.dtype), warped)
    return torch.where(count > 0, total / count.clamp(min=1), key)


def unless_unseen(keep: Tensor, valid: Tensor) -> Tensor:
    """`keep` (B, H, W), and every pixel of the images of which no context frame sees anything."""
    return keep | ~valid.flatten(1).any(1)[:, None, None]


def everywhere(key: Tensor) -> Tensor:
    """Every pixel, (B, H, W)."""
    return torch.ones_like(key[:, 0], dtype=torch.bool)
