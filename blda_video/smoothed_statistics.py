"""Logit statistics that count a clip as one observation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from blda.balance.logit_statistics import LogitStatistics
from blda.data.batches import PseudoLabels
from blda_video.propagation.propagated_labels import ClipLabels


class SmoothedStatistics(LogitStatistics):
    """`LogitStatistics` whose histograms are pooled over the frames of a clip along the flow (METHOD 7).

    A labelled key pixel is a surface point. It is observed in the key frame with weight 1 and in context frame k with
    weight valid_k exp(-|offset_k| / scale), all as its label; the weights of one point are divided by their sum, so a
    point counts once however often it is seen. The observation in the key is the student's logits of the mixed image.
    In a neighbour it is these logits plus the change of the teacher's logits from key to neighbour, because student and
    teacher differ in level. Without context it is bit for bit `LogitStatistics`.

    scale: frames after which an observation counts 1/e. Other arguments: see `LogitStatistics`.
    """

    def __init__(
        self,
        num_classes: int,
        components: int = 5,
        momentum: float = 0.99,
        warmup: int = 1500,
        min_pixels: int = 100,
        seed: int = 0,
        soft_counting: bool = False,
        scale: float = 2.0,
    ) -> None:
        super().__init__(num_classes, components, momentum, warmup, min_pixels, seed, soft_counting)
        if not scale > 0:
            raise ValueError(f"scale is {scale}; a distance in frames must be above 0")
        self.scale = scale

    def _gather(self, logits: Tensor, labels: Tensor, pseudo: PseudoLabels | None) -> Tensor:
        if not isinstance(pseudo, ClipLabels) or not pseudo.offset:
            return super()._gather(logits, labels, pseudo)
        decay = torch.tensor([math.exp(-abs(step) / self.scale) for step in pseudo.offset])
        weight = pseudo.context_weight * decay.to(pseudo.context_weight, non_blocking=True)[:, None, None]
        # An observation without a number is none; `histogram` would drop it with its share of the point.
        weight = torch.where(pseudo.context_change.isnan().any(2), 0, weight)
        total = 1 + weight.sum(1)
        counts = self.histogram(logits, labels, 1 / total)
        for k in range(len(pseudo.offset)):
            counts += self.histogram(logits + pseudo.context_change[:, k], labels, weight[:, k] / total)
        return counts
