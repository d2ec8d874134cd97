"""Published rules whose label is the context's (UVDA, TMLR 2024); see `context_mean` for several context frames."""

from __future__ import annotations

import torch
from torch import Tensor

from blda_video.propagation.rule import Combined, context_mean, everywhere, unless_unseen


class Warp:
    """`warp`: the context's belief; what it does not see is not learnt from."""

    needs_context = True

    def __call__(self, key: Tensor, warped: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        return Combined(context_mean(key, warped, valid), unless_unseen(valid.any(1), valid))


class Fill:
    """`fill`: the context's belief; what it does not see is filled from the key."""

    needs_context = True

    def __call__(self, key: Tensor, warped: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        return Combined(context_mean(key, warped, valid), everywhere(key))


class MaxConfidence:
    """`max_confidence`: the belief of the frame that is surest of its class.

    Confidence is the largest probability. The key wins a tie; context frames that tie (many are sure to 1.0 in
    float32) share it, as their order must not decide.
    """

    needs_context = True

    def __call__(self, key: Tensor, warped: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        sureness = torch.where(valid, warped.amax(2), 0)
        best = torch.cat((key.amax(1, keepdim=True), sureness), 1).amax(1)
        surest = valid & (sureness == best[:, None])
        probabilities = torch.where((key.amax(1) == best)[:, None], key, context_mean(key, warped, surest))
        return Combined(probabilities, everywhere(key))


class ConfidenceThreshold:
    """`confidence_threshold`: the context's belief, where it is sure.

    threshold: least confidence of the context's belief, in [0, 1].
    """

    needs_context = True

    def __init__(self, threshold: float = 0.968) -> None:
        self.threshold = probability(threshold)

    def __call__(self, key: Tensor, warped: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        probabilities = context_mean(key, warped, valid)
        sure = valid.any(1) & (probabilities.amax(1) >= self.threshold)
        return Combined(probabilities, unless_unseen(sure, valid))


def probability(threshold: float) -> float:
    """`threshold`; ValueError when no confidence can have it."""
    if not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
        raise ValueError(f"rule: threshold is {threshold!r}; a confidence is a number between 0 and 1")
    return threshold
