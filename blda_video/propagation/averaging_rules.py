"""Rules that label every pixel: the key frame alone, and our average over the trajectory."""

from __future__ import annotations

import torch
from torch import Tensor

from blda_video.propagation.rule import Combined, everywhere

FLOOR = 1e-6
"""Least probability under a logarithm: no frame alone can rule a class out."""


class KeyAlone:
    """`none`: the key frame alone, as for images."""

    needs_context = False

    def __call__(self, key: Tensor, warped: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        return Combined(key, everywhere(key))


class Trajectory:
    """`trajectory`: the average of all valid probabilities of a surface point, weighted by confidence (METHOD 7, ours).

    Frames count alike at every distance. Errors that change from frame to frame cancel; persistent ones remain. The
    validity check sometimes passes the probabilities of another surface, which then differ from those of all other
    frames. So each frame is also weighted by its mean similarity (Bhattacharyya coefficient) to the others. With one
    neighbour this weight changes nothing.

    mean: "geometric" (of probabilities, which averages logits) or "arithmetic". power: exponent of the weight by
    confidence, the largest probability; 0 weights all valid frames alike. consensus: exponent of the weight by
    similarity to the other frames; 0 turns it off.
    """

    needs_context = True

    def __init__(self, mean: str = "geometric", power: float = 1.0, consensus: float = 4.0) -> None:
        if mean not in ("geometric", "arithmetic"):
            raise ValueError(f"rule: trajectory has no mean '{mean}'; use geometric or arithmetic")
        for name, value in (("power", power), ("consensus", consensus)):
            if not isinstance(value, (int, float)) or not value >= 0:
                raise ValueError(
                    f"rule: {name} is {value!r}; use a number of at least 0, which counts all frames alike"
                )
        self.geometric, self.power, self.consensus = mean == "geometric", power, consensus

    def __call__(self, key: Tensor, warped: Tensor, valid: Tensor, offset: tuple[int, ...]) -> Combined:
        frame_probabilities = torch.cat((key[:, None], warped), 1)
        seen = torch.cat((torch.ones_like(valid[:, :1]), valid), 1) if valid.shape[1] else everywhere(key)[:, None]
        weight = torch.where(seen, frame_probabilities.amax(2).pow(self.power), 0)
        if self.consensus and warped.shape[1] > 1:
            weight = weight * likeness(frame_probabilities, seen).pow(self.consensus)
        weight = weight / weight.sum(1, keepdim=True)
        # Frame by frame: at once, this would be a product of small matrices, one a pixel.
        pooled = torch.zeros_like(key)
        for probabilities, share in zip(frame_probabilities.unbind(1), weight.unbind(1), strict=True):
            pooled.addcmul_(probabilities.clamp(min=FLOOR).log_() if self.geometric else probabilities, share[:, None])
        pooled = pooled.softmax(1) if self.geometric else pooled
        # Chosen, not computed: where nothing is valid the key's belief is kept bit for bit.
        return Combined(torch.where(valid.any(1, keepdim=True), pooled, key), everywhere(key))


def likeness(frame_probabilities: Tensor, seen: Tensor) -> Tensor:
    """Similarity (B, K, H, W) of each frame's probabilities to those of the other frames.

    It is the mean of sum_c sqrt(P_k[c] P_j[c]) over the other frames j that see the point, divided by its largest value
    among the frames; 0 where frame k does not see the point.

    frame_probabilities: (B, K, C, H, W). seen: (B, K, H, W) bool, at least one frame everywhere.
    """
    roots = torch.where(seen[:, :, None], frame_probabilities.sqrt(), 0)
    total = roots.sum(1)
    # Each frame is like itself by 1, which is taken off again.
    alike = torch.stack([(each * total).sum(1) for each in roots.unbind(1)], 1) - 1
    alike = alike / (seen.sum(1, keepdim=True) - 1).clamp(min=1)
    alike = torch.where(seen, alike.clamp(min=FLOOR), 0)
    return alike / alike.amax(1, keepdim=True)
