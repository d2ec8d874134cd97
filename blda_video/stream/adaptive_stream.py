"""Predict a video frame by frame, each prediction balanced by statistics that follow the video."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from blda.balance import logit_grid
from blda.balance.alignment import alignment
from blda.balance.gaussian_mixture import Mixture, cdf
from blda.balance.logit_statistics import LogitStatistics
from blda.balance.soft_counting import sampled_labels
from blda.calibration.scores import scores

TAU = 0.3
MEMORY = 0.5
PRIOR = 1.0


class AdaptiveStream:
    """Post-hoc calibration (METHOD 2) whose target statistics are estimated from the stream itself.

    Each frame's logits are counted into histograms, for labels sampled from the frame's own probabilities; what earlier
    frames counted fades. The mixtures are fitted to these counts and a prior, which decides where the stream has shown
    little of a class. The frame is then corrected towards the source's anchors. No label and no gradient is needed, and
    a frame's prediction depends on itself and earlier frames alone.

    predict: image (1, 3, H, W) in [0, 1] -> logits (1, C, H, W).
    source: statistics of the source, which hold the anchors.
    target: statistics of the target at the end of training: the prior, with which every video starts.
    tau: strength of the correction, at least 0.
    memory: weight of a frame's counts in the next frame, in [0, 1).
    prior: weight of the prior, above 0, as a number of frames in which all classes are equally frequent.
    """

    def __init__(
        self,
        predict: Callable[[Tensor], Tensor],
        source: LogitStatistics,
        target: LogitStatistics,
        tau: float = TAU,
        memory: float = MEMORY,
        prior: float = PRIOR,
    ) -> None:
        if not (0 <= memory < 1 and tau >= 0 and prior > 0):
            raise ValueError(
                f"memory {memory}, tau {tau}, prior {prior}; use a memory in [0, 1), a tau of at least 0 and a prior "
                "above 0"
            )
        if not source.estimated[source.num_classes :].all():
            raise ValueError("the source's anchors were never estimated; give a checkpoint later in its training")
        self.predict, self.source, self.target = predict, source, target
        self.tau, self.memory, self.prior = tau, memory, prior
        self._prior = histograms(target)
        self.reset()

    def reset(self) -> None:
        """Forget all frames: the next one belongs to another video."""
        self.statistics = copy.deepcopy(self.target)
        # Every fit is taken whole: what fades are the counts that it is fitted to.
        self.statistics.momentum, self.statistics.min_pixels = 0.0, 0
        self._counts, self._frames = torch.zeros_like(self._prior), 0

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Return the balanced scores (1, C, H, W) of the next frame (1, 3, H, W); see `blda.calibration.scores`."""
        logits = self.predict(image)
        labels = sampled_labels(logits.softmax(1), self._frames)
        self._counts = self.memory * self._counts + self.statistics.histogram(logits, labels)
        self._frames += 1
        weight = self.prior * labels.numel() / self.target.num_classes
        self.statistics.fit(self._counts + weight * self._prior)
        # A class that training never estimated has no prior, and is left alone as it is in training.
        self.statistics.estimated.copy_(self.target.estimated)
        return scores(logits, alignment(self.statistics, self.source), self.tau)


def histograms(statistics: LogitStatistics) -> Tensor:
    """Return the mixture of every cell as a histogram (C, C, BINS) float64 of one pixel."""
    nodes = logit_grid.nodes(statistics.means.device).double()
    edges = (nodes[1:] + nodes[:-1]) / 2
    below = cdf(Mixture(*(field.double() for field in statistics.mixture)), edges)
    return torch.diff(below, prepend=torch.zeros_like(below[..., :1]), append=torch.ones_like(below[..., :1]))
