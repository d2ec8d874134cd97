"""Feature distance to ImageNet: things keep the features that ImageNet taught (DAFormer, CVPR 2022, eq. 5-7)."""

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
    """Where a label, brought to `size` (h, w) by area, shows one thing class on at least `min_ratio` of the area.

    label: (B, H, W). things: class indices. Returns (B, h, w) bool.
    """
    shares = torch.stack([(label == thing).float() for thing in things], 1)
    return F.adaptive_avg_pool2d(shares, size).amax(1) >= min_ratio


class FeatureDistance:
    """A criterion plus strength * the distance of the encoder's last features to ImageNet's, on things of the source.

    criterion: costs everything else. encoder: with the weights it started from, frozen here; it is no state, as the
    config says what it is. things: class indices. strength: lambda. min_ratio: see `thing_pixels`, above 1/2, so that a
    pixel shows at most one class. autocast: makes the context of mixed precision; the distance is in float32.

    The mean is over the thing pixels of the batches of all processes, as if they were one.
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
        """The criterion's loss of a source batch, and the distance."""
        loss = self.criterion.source_loss(output, source)
        distance = self.distance(output.features, source.label)
        self._last = distance.detach()
        return loss + self.strength * distance

    def mixed_loss(self, output: Output, mixed: Mixed, pseudo: PseudoLabels) -> Tensor:
        """The criterion's loss of a mixed batch: what stands for the target may be no thing at all."""
        return self.criterion.mixed_loss(output, mixed, pseudo)

    def distance(self, features: Features, label: Tensor) -> Tensor:
        """Mean Euclidean distance over thing pixels, this process's share of it; 0 where there are none."""
        with torch.no_grad(), self.autocast():
            fixed = self.encoder(features.input)[-1].float()
        far = torch.linalg.vector_norm(features.last.float() - fixed, dim=1)
        counted = thing_pixels(label, far.shape[-2:], self.things, self.min_ratio)
        count, processes = counted.sum(), 1
        if dist.is_available() and dist.is_initialized():
            # Gradients are averaged over processes, whose images have different numbers of thing pixels.
            dist.all_reduce(count)
            processes = dist.get_world_size()
        return torch.where(counted, far, 0).sum() * processes / count.clamp_min(1)

    def state(self) -> dict[str, nn.Module]:
        """The criterion's."""
        return dict(self.criterion.state())

    def numbers(self) -> dict[str, Tensor]:
        """The criterion's, and the distance on the last source batch."""
        last = {} if self._last is None else {"feature_distance": self._last}
        return {**self.criterion.numbers(), **last}
