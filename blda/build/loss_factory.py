"""Criteria of a run: losses of a labelled batch, and the components they need."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from blda.balance.balanced_criterion import BalancedCriterion
from blda.balance.density_loss import DensityLoss
from blda.balance.logit_statistics import LogitStatistics
from blda.build.network_factory import is_pretrained
from blda.build.reader_factory import class_names
from blda.build.statistics_factory import StatisticsFactory
from blda.config.method_schema import THINGS
from blda.config.schema import Config
from blda.models.frozen_features import FrozenFeatures
from blda.selftraining.criterion import AdjustedLoss, Criterion, PlainLoss, ReweightedLoss
from blda.selftraining.feature_distance import FeatureDistance
from blda.selftraining.foundation_distance import SourceFoundationDistance
from blda.selftraining.hrda_detail_loss import HRDADetailLoss
from blda.spelling import nearest

Statistics = tuple[LogitStatistics, LogitStatistics]
"""Statistics of source and target."""


class LossFactory:
    """Factory of a method's criterion.

    config: of the run. accelerator: of this process. statistics_of: builds the statistics of a domain. frequency:
    counts the labelled pixels of each class in the source, (C,).
    """

    def __init__(
        self,
        config: Config,
        accelerator: Accelerator,
        statistics_of: StatisticsFactory,
        frequency: Callable[[], Tensor],
    ) -> None:
        self.config, self.accelerator = config, accelerator
        self._statistics_of, self._frequency = statistics_of, frequency

    def criterion(self, method: str, trained: nn.Module, statistics: Statistics | None) -> Criterion:
        """Build the criterion of a method; statistics: see `statistics`."""
        if method == "reweighted":
            weighted = ReweightedLoss(self._frequency(), self.config.reweighting.power, self.class_factors())
            return self.with_detail(weighted, weighted)
        if method == "adjusted":
            adjusted = AdjustedLoss(self._frequency(), self.config.adjustment.power)
            return self.with_detail(adjusted, adjusted)
        if method != "blda":
            return self.with_detail(PlainLoss(), PlainLoss())
        blda = self.config.blda
        balanced = BalancedCriterion(*statistics, blda.tau, blda.correct_target)
        if blda.density is not None:
            return DensityLoss(balanced, trained.head, blda.density.strength, blda.density.power)
        return self.with_detail(balanced, PlainLoss())

    def with_detail(self, fused: Criterion, detail: Criterion) -> Criterion:
        """Combine two criteria for a network of two resolutions; other networks use `fused` alone."""
        hrda = self.config.model.hrda
        return fused if hrda is None else HRDADetailLoss(fused, detail, hrda.strength)

    def statistics(self, method: str) -> Statistics | None:
        """Build the statistics of both domains on the device, source first; None for a method without."""
        if method != "blda":
            return None
        source, target = (self._statistics_of(self.config, domain) for domain in ("source", "target"))
        return source.to(self.accelerator.device), target.to(self.accelerator.device)

    def pretrained_encoder(self, method: str, student: nn.Module) -> nn.Module | None:
        """Copy a new student's encoder for the feature distance, None for methods without it.

        A resumed run gets the same copy.
        """
        if self.config.feature_distance is None or method == "source_only":
            return None
        return copy.deepcopy(student.encoder)

    def with_feature_distance(self, criterion: Criterion, pretrained: nn.Module) -> FeatureDistance:
        """Add to a criterion the distance to the pretrained encoder's features of things."""
        settings, autocast = self.config.feature_distance, self.accelerator.autocast
        return FeatureDistance(criterion, pretrained, self.things(), settings.strength, settings.min_ratio, autocast)

    def with_foundation_distance(
        self, criterion: Criterion, frozen: FrozenFeatures, head: nn.Module
    ) -> SourceFoundationDistance:
        """Add to a criterion the distance to frozen features of the source, if it has a part; head: of a student."""
        settings = self.config.foundation_distance
        return SourceFoundationDistance(criterion, frozen, head, settings.strength, settings.domains != "target")

    def class_factors(self) -> Tensor:
        """Return the factor of each class's weight, (C,); ValueError for an unknown class or a factor below 0."""
        factors, names = self.config.reweighting.factors, class_names(self.config)
        for name, factor in factors.items():
            if name not in names:
                raise ValueError(f"reweighting.factors: no class '{name}'; {nearest(str(name), names)}")
            if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 <= factor < math.inf:
                raise ValueError(f"reweighting.factors: {name} is {factor!r}; it must be a number of at least 0")
        if factors and not any(factors.get(name, 1) for name in names):
            raise ValueError("reweighting.factors are all 0, so no pixel counts; give one above 0")
        return torch.tensor([float(factors.get(name, 1)) for name in names])

    def things(self) -> list[int]:
        """Return the class indices of the things whose features stay near the pretrained encoder's.

        Raises ValueError if the encoder is not pretrained, or a name is no class.
        """
        settings, encoder, names = self.config.feature_distance, self.config.model.encoder, class_names(self.config)
        if settings is None:
            return []
        if not is_pretrained(encoder):
            raise ValueError(
                "feature_distance is to pretrained features, but model.encoder starts at random; give "
                "model.encoder.weights=PATH or .pretrained=true, or set feature_distance=null"
            )
        for thing in settings.things:
            if thing not in {*names, *THINGS}:
                raise ValueError(f"feature_distance.things: no class '{thing}'; {nearest(thing, names)}")
        return [i for i, name in enumerate(names) if name in settings.things]
