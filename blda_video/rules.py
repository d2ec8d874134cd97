"""How the beliefs of a clip become the belief about its key frame.

A rule is any callable (probabilities, pulled, valid, offset) -> probabilities (B, C, H, W) that sum to 1, with
    probabilities: (B, C, H, W), the teacher's belief about the key frame;
    pulled: (B, K, C, H, W), its beliefs about the context frames, pulled to the key frame along the flow;
    valid: (B, K, H, W) bool, key pixels that context frame k sees; elsewhere `pulled` means nothing;
    offset: K signed frame distances.
A rule gives `probabilities` back unchanged where nothing is valid, and the order of the context does not matter.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Rule = Callable[[Tensor, Tensor, Tensor, tuple[int, ...]], Tensor]


def none(probabilities: Tensor, pulled: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Tensor:
    """The key frame alone."""
    return probabilities


def trajectory(probabilities: Tensor, pulled: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Tensor:
    """The average of all valid beliefs about a surface point, weighted by their confidence (METHOD 7, ours).

    Confidence is the largest probability; frames count alike at every distance, as validity already sorts out what
    long flow gets wrong. Errors that change from frame to frame cancel, those that persist remain.
    """
    key_weight = probabilities.amax(1)
    weight = torch.where(valid, pulled.amax(2), 0)
    pooled = probabilities * key_weight[:, None] + torch.einsum("bkhw,bkchw->bchw", weight, pulled)
    pooled = pooled / (key_weight + weight.sum(1))[:, None]
    # Chosen, not computed: where nothing is valid the key's belief is kept bit for bit.
    return torch.where(valid.any(1, keepdim=True), pooled, probabilities)
