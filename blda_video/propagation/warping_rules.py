"""Published rules that take the label from the context (UVDA, TMLR 2024); `context_mean` joins several frames."""

from __future__ import annotations

import torch
from torch import Tensor

from blda_video.propagation.rule import Combined, context_mean, everywhere, unless_unseen


class Warp:
    """`warp`: the context's probabilities; pixels that it does not see are left out of training."""

    needs_context = True

    def __call__(self, key: Tensor, warped: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        return Combined(context_mean(key, warped, valid), unless_unseen(valid.any(1), valid))


class Fill:
    """`fill`: the context's probabilities; pixels that it does not see are filled from the key."""

    needs_context = True

    def __call__(self, key: Tensor, warped: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        return Combined(context_mean(key, warped, valid), everywhere(key))


class MaxConfidence:
    """`max_confidence`: the probabilities of the most confident frame.

    Confidence is the largest probability. The key wins a tie; context frames that tie (many reach 1.0 in float32) are
    averaged, because their order must not decide.
    """

    needs_context = True

    def __call__(self, key: Tensor, warped: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        sureness = torch.where(valid, warped.amax(2), 0)
        best = torch.cat((key.amax(1, keepdim=True), sureness), 1).amax(1)
        surest = valid & (sureness == best[:, None])
        probabilities = torch.where((key.amax(1) == best)[:, None], key, context_mean(key, warped, surest))
        return Combined(probabilities, everywhere(key))


class ConfidenceThreshold:
    """`confidence_threshold`: the context's probabilities, kept where they are confident.

    threshold: least confidence of the context, in [0, 1].
    """

    needs_context = True

    def __init__(self, threshold: float = 0.968) -> None:
        self.threshold = probability(threshold)

    def __call__(self, key: Tensor, warped: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        probabilities = context_mean(key, warped, valid)
        sure = valid.any(1) & (probabilities.amax(1) >= self.threshold)
        return Combined(probabilities, unless_unseen(sure, valid))


def probability(threshold: float) -> float:
    """Return `threshold`; ValueError when it is not in [0, 1]."""
    if not isinstance(threshold, (int, float)) or not 0 <= threshold <= 1:
        raise ValueError(f"rule: threshold is {threshold!r}; a confidence is a number between 0 and 1")
    return threshold
