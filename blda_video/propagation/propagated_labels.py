"""Pseudo-labels from a clip: the teacher sees every frame, and its beliefs meet in the key frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from blda.data.batches import PseudoLabels
from blda.selftraining.pseudo_labels import pseudo_labels
from blda_video.clips.clip import Clip
from blda_video.flow.flow_geometry import warp
from blda_video.propagation.rule import Rule


@dataclass(frozen=True)
class ClipLabels(PseudoLabels):
    """Pseudo-labels of B key frames, with what the teacher saw in the context, if that was asked for.

    context_change: (B, K, C, H, W), by how much the teacher's logits of the context frames, pulled to the key frame,
        differ from its logits of the key.
    context_weight: (B, K, H, W) float32, validity of each observation: 1 where the flow is valid, else 0.
    offset: K signed frame distances; empty, with K = 0, when nobody asked.
    """

    context_change: Tensor
    context_weight: Tensor
    offset: tuple[int, ...]


class PropagatedLabels:
    """Pseudo-labels from clips (METHOD 7); with K = 0 bit for bit `blda.selftraining.pseudo_labels.TeacherLabels`.

    rule: how beliefs combine, see `blda_video.propagation`. threshold, ignore_top, ignore_bottom: of the image rule,
    which is applied to the combined belief: where frames disagree the average is flat, and the image's weight falls
    with it. observe: hand on the context's logits, for statistics that are pooled over the clip. keep_probabilities:
    and the combined belief, for statistics that count by it.
    """

    def __init__(
        self,
        rule: Rule,
        threshold: float = 0.968,
        ignore_top: int = 0,
        ignore_bottom: int = 0,
        observe: bool = True,
        keep_probabilities: bool = True,
    ) -> None:
        self.rule, self.threshold, self.observe, self.keep_probabilities = rule, threshold, observe, keep_probabilities
        self.ignore_top, self.ignore_bottom = ignore_top, ignore_bottom

    def __call__(self, teacher: Callable[[Tensor], Tensor], target: Clip) -> ClipLabels:
        """teacher: image (B, 3, H, W) -> logits (B, C, H, W). target: the clean, not augmented batch.

        The teacher is called once for each frame of the clip, key first, always with B images: its BatchNorm works on
        batch statistics, which must not depend on the context. Frames that neither the rule nor the observer looks at
        are not shown to it.
        """
        logits = teacher(target.image)
        key = logits.softmax(1)
        wanted = range(len(target.offset)) if self.rule.needs_context or self.observe else ()
        frame_probabilities, observations = [], []
        for k in wanted:
            seen, flow = teacher(target.context[:, k]), target.flow[:, k]
            if self.rule.needs_context:
                frame_probabilities.append(warp(seen.softmax(1), flow))
            if self.observe:
                observations.append(warp(seen, flow) - logits)
        count = len(frame_probabilities)
        combined = self.rule(key, _stack(frame_probabilities, key), target.valid[:, :count], target.offset[:count])
        rows = self.ignore_top, self.ignore_bottom
        labels = pseudo_labels(combined.probabilities, self.threshold, *rows, target.trusted, self.keep_probabilities)
        count = len(observations)
        return ClipLabels(
            labels.label,
            labels.weight * combined.keep,
            _stack(observations, logits),
            target.valid[:, :count].to(labels.weight.dtype),
            target.offset[:count],
            probabilities=labels.probabilities,
        )


def _stack(frames: list[Tensor], like: Tensor) -> Tensor:
    """K tensors (B, C, H, W) -> (B, K, C, H, W), also for K = 0."""
    return torch.stack(frames, 1) if frames else like[:, None][:, :0]
