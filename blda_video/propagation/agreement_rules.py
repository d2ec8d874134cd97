"""Published rules that keep the labels on which the frames agree (UVDA, TMLR 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from blda_video.propagation.rule import Combined, context_mean, unless_unseen
from blda_video.propagation.warping_rules import probability


class Consistency:
    """`consistency`: the key's probabilities, kept where a context frame sees the point and all that do agree."""

    needs_context = True

    def __call__(self, key: Tensor, warped: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        return Combined(key, unless_unseen(agreed(key, warped, valid), valid))


class ConsistentConfidence:
    """`consistent_confidence`: `consistency`, kept only where the key is confident too.

    threshold: least confidence of the key, in [0, 1]. per_class: raise the threshold of a class to the mean confidence
    of its agreed pixels in this image, if that is higher. The reference averages over the last 1000 pixels that it
    accepted: a state that would differ between processes, and a threshold that only rises.
    """

    needs_context = True

    def __init__(self, threshold: float = 0.95, per_class: bool = False) -> None:
        self.threshold, self.per_class = probability(threshold), per_class

    def __call__(self, key: Tensor, warped: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        agrees = agreed(key, warped, valid)
        confidence, label = key.max(1)
        needed = self._of_class(confidence, label, agrees, key.shape[1]) if self.per_class else self.threshold
        return Combined(key, unless_unseen(agrees & (confidence >= needed), valid))

    def _of_class(self, confidence: Tensor, label: Tensor, agrees: Tensor, num_classes: int) -> Tensor:
        """Confidence threshold of each pixel's class in its image, (B, H, W)."""
        one_hot = label[:, None] == torch.arange(num_classes, device=label.device)[:, None, None]
        chosen = (one_hot & agrees[:, None]).flatten(2).to(confidence.dtype)
        mean = torch.einsum("bcn,bn->bc", chosen, confidence.flatten(1)) / chosen.sum(2).clamp(min=1)
        return mean.clamp(min=self.threshold).gather(1, label.flatten(1)).view_as(label)


class RareClass:
    """`rare_class`: `consistency`, but where key and context differ and one is a rare class, the rarer is taken.

    frequency: (C,) how often each class occurs, in any unit; `build` counts the source's labels. share: the part of the
    classes, rarest first, that are rare (the reference: a list of 11 of Cityscapes' 19).
    """

    needs_context = True

    def __init__(self, frequency: Tensor, share: float = 0.58) -> None:
        if not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise ValueError(f"rule: share is {share!r}; a part of the classes is a number between 0 and 1")
        self.rank = frequency.argsort(stable=True).argsort()
        self.rare = round(share * len(frequency))

    def __call__(self, key: Tensor, warped: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        mean, seen = context_mean(key, warped, valid), valid.any(1)
        own, other = (self.rank.to(key.device)[probabilities.argmax(1)] for probabilities in (key, mean))
        probabilities = torch.where((seen & (other < own))[:, None], mean, key)
        keep = seen & ((own == other) | (torch.minimum(own, other) < self.rare))
        return Combined(probabilities, unless_unseen(keep, valid))


class Oracle:
    """`oracle`: the context's probabilities where its class is true. For diagnosis; `build` makes none, so no run can
    use it.

    truth: (B, H, W) int64, the labels of the batch that the rule is called with next.
    """

    needs_context = True

    def __init__(self, truth: Tensor) -> None:
        self.truth = truth

    def __call__(self, key: Tensor, warped: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        probabilities = context_mean(key, warped, valid)
        right = valid.any(1) & (probabilities.argmax(1) == self.truth)
        return Combined(probabilities, unless_unseen(right, valid))


def agreed(key: Tensor, warped: Tensor, valid: Tensor) -> Tensor:
    """Mask (B, H, W) bool of pixels that a context frame sees and for which all that do predict the key's class."""
    same = warped.argmax(2) == key.argmax(1)[:, None]
    return valid.any(1) & (same | ~valid).all(1)
