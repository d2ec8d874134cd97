"""Pseudo-labels from a clip: the teacher's probabilities of all frames are combined in the key frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from blda.data.batches import PseudoLabels
from blda.selftraining.pseudo_labels import pseudo_labels
from blda_video.clips.clip import Clip
from blda_video.flow.flow_geometry import warp
from blda_video.propagation.motion_evidence import MotionEvidence
from blda_video.propagation.rule import Rule


@dataclass(frozen=True)
class ClipLabels(PseudoLabels):
    """Pseudo-labels of B key frames, with the teacher's context logits if these were asked for.

    context_change: (B, K, C, H, W), the teacher's logits of the context frames, warped to the key frame, minus its
        logits of the key.
    context_weight: (B, K, H, W) float32, validity of each observation: 1 where the flow is valid, else 0.
    offset: K signed frame distances; empty (K = 0) when context logits were not asked for.
    """

    context_change: Tensor
    context_weight: Tensor
    offset: tuple[int, ...]


class PropagatedLabels:
    """Pseudo-labels from clips (METHOD 7); with K = 0 bit for bit `blda.selftraining.pseudo_labels.TeacherLabels`.

    rule: the propagation rule, see `blda_video.propagation`.
    threshold, ignore_top, ignore_bottom: arguments of `TeacherLabels`, applied to the combined probabilities. Where
        frames disagree their average is flat, which lowers the image's weight.
    observe: also return the context's logits, for statistics that are pooled over the clip.
    keep_probabilities: also return the combined probabilities, for statistics that count by them.
    motion: changes the combined probabilities by what the flow says of each class; None leaves them.
    """

    def __init__(
        self,
        rule: Rule,
        threshold: float = 0.968,
        ignore_top: int = 0,
        ignore_bottom: int = 0,
        observe: bool = True,
        keep_probabilities: bool = True,
        motion: MotionEvidence | None = None,
    ) -> None:
        self.motion = motion
        self.rule, self.threshold, self.observe, self.keep_probabilities = rule, threshold, observe, keep_probabilities
        self.ignore_top, self.ignore_bottom = ignore_top, ignore_bottom

    def __call__(self, teacher: Callable[[Tensor], Tensor], target: Clip) -> ClipLabels:
        """Label the key frames of a batch of clips.

        teacher: image (B, 3, H, W) -> logits (B, C, H, W). target: the clean, not augmented batch.

        The teacher is called once for each frame of the clip, key first, always with B images: its BatchNorm works on
        batch statistics, which must not depend on the context. Frames that neither the rule nor `observe` needs are not
        predicted.
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
        probabilities = combined.probabilities if self.motion is None else self.motion(combined.probabilities, target)
        rows = self.ignore_top, self.ignore_bottom
        labels = pseudo_labels(probabilities, self.threshold, *rows, target.trusted, self.keep_probabilities)
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
    """Stack K tensors (B, C, H, W) to (B, K, C, H, W), also for K = 0."""
    return torch.stack(frames, 1) if frames else like[:, None][:, :0]
