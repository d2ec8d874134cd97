"""Feature distance to ImageNet: keeps the ImageNet features of thing classes (DAFormer, CVPR 2022, eq. 5-7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

from blda.data.batches import Mixed, PseudoLabels
from blda.data.sample import Sample
from blda.models.output import Features, Output
from blda.selftraining.criterion import Criterion


def thing_pixels(label: Tensor, size: tuple[int, int], things: Sequence[int], min_ratio: float) -> Tensor:
    """Find the pixels of a coarse grid whose area is mostly one thing class.

    label: label map, (B, H, W).
    size: height and width (h, w) of the coarse grid.
    things: indices of the thing classes.
    min_ratio: share of a coarse pixel's area that one thing class must cover.
    Returns (B, h, w) bool.
    """
    shares = torch.stack([(label == thing).float() for thing in things], 1)
    return F.adaptive_avg_pool2d(shares, size).amax(1) >= min_ratio


class FeatureDistance:
    """A criterion plus the weighted distance of the encoder's last features to ImageNet's, on source thing pixels.

    criterion: the criterion that this one wraps and adds to.
    encoder: encoder with its pretrained weights, frozen here. It is not part of the state, because the config names
        its weights.
    things: indices of the thing classes.
    strength: weight of the distance, lambda.
    min_ratio: see `thing_pixels`; above 1/2, so that a pixel belongs to at most one class.
    autocast: returns a mixed-precision context for the frozen encoder; the distance itself is in float32.

    The mean is over the thing pixels of the global batch, over all processes.
    """

    def __init__(
        self,
        criterion: Criterion,
        encoder: nn.Module,
        things: Sequence[int],
        strength: float = 0.005,
        min_ratio: float = 0.75,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        if not things:
            raise ValueError("feature_distance.things has no class of the run; name some, or feature_distance=null")
        if not 0.5 < min_ratio <= 1:
            raise ValueError(f"feature_distance.min_ratio is {min_ratio}; it must be above 0.5 and at most 1")
        self.criterion, self.things, self.strength, self.min_ratio = criterion, tuple(things), strength, min_ratio
        self.encoder, self.autocast = encoder.requires_grad_(False).eval(), autocast
        self._last: Tensor | None = None

    def source_loss(self, output: Output, source: Sample) -> Tensor:
        """Return the wrapped criterion's loss of a source batch plus strength * distance."""
        loss = self.criterion.source_loss(output, source)
        distance = self.distance(output.features, source.label)
        self._last = distance.detach()
        return loss + self.strength * distance

    def mixed_loss(self, output: Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """Return the wrapped criterion's loss of a mixed batch; the distance needs true labels."""
        return self.criterion.mixed_loss(output, mixed, pseudo)

    def distance(self, features: Features, label: Tensor) -> Tensor:
        """Return this process's share of the mean Euclidean distance over thing pixels; 0 if there are none."""
        with torch.no_grad(), self.autocast():
            fixed = self.encoder(features.input)[-1].float()
        distance = torch.linalg.vector_norm(features.last.float() - fixed, dim=1)
        counted = thing_pixels(label, distance.shape[-2:], self.things, self.min_ratio)
        count, processes = counted.sum(), 1
        if dist.is_available() and dist.is_initialized():
            # Gradients are averaged over processes, whose images have different numbers of thing pixels.
            dist.all_reduce(count)
            processes = dist.get_world_size()
        return torch.where(counted, distance, 0).sum() * processes / count.clamp_min(1)

    def state(self) -> dict[str, nn.Module]:
        """Return the state of the wrapped criterion."""
        return dict(self.criterion.state())

    def numbers(self) -> dict[str, Tensor]:
        """Return the wrapped criterion's numbers and the distance on the last source batch."""
        last = {} if self._last is None else {"feature_distance": self._last}
        return {**self.criterion.numbers(), **last}
