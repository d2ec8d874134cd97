"""What a batch costs in a run, from its config: criteria, and what they know beside the logits."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from blda.balance.balanced_loss import BalancedLoss
from blda.balance.density_loss import DensityLoss
from blda.balance.logit_statistics import LogitStatistics
from blda.build.data_factory import DataBuild
from blda.config.schema import THINGS
from blda.data import seeding
from blda.models.density_regression import DensityRegression
from blda.selftraining.criterion import Criterion, PlainLoss, ReweightedLoss
from blda.selftraining.feature_distance import FeatureDistance
from blda.selftraining.hrda_detail_loss import HRDADetailLoss
from blda.spelling import nearest

Statistics = tuple[LogitStatistics, LogitStatistics]
"""Of source and target."""


class LossBuild(DataBuild):
    """The criteria of an image run; a video or classifier's run overrides the two methods at the end."""

    def trained(self, method: str, student: nn.Module) -> nn.Module:
        """What is trained of one of METHODS: the student, or the student with a head that only training has."""
        regresses = method == "blda" and self.config.blda.density is not None
        return DensityRegression(student) if regresses else student

    def criterion(self, method: str, trained: nn.Module, statistics: Statistics | None) -> Criterion:
        """Build the criterion of one of METHODS; statistics: see `statistics`."""
        if method == "reweighted":
            weighted = ReweightedLoss(self.frequency(), self.config.reweighting.power)
            return self.with_detail(weighted, weighted)
        if method != "blda":
            return self.with_detail(PlainLoss(), PlainLoss())
        density, balanced = self.config.blda.density, self.balanced_loss(statistics)
        if density is not None:
            return DensityLoss(balanced, trained.head, density.strength, density.power)
        return self.with_detail(balanced, PlainLoss())

    def with_detail(self, fused: Criterion, detail: Criterion) -> Criterion:
        """A criterion, and in a network of two resolutions another one for the detail by itself."""
        hrda = self.config.model.hrda
        return fused if hrda is None else HRDADetailLoss(fused, detail, hrda.strength)

    def pretrained_encoder(self, method: str, student: nn.Module) -> nn.Module | None:
        """A copy of a new student's encoder, which one of METHODS stays near; the same for a run that is resumed."""
        if self.config.feature_distance is None or method == "source_only":
            return None
        return copy.deepcopy(student.encoder)

    def things(self) -> list[int]:
        """Indices of the classes whose features stay near the pretrained encoder's; ValueError if it is none."""
        settings, encoder = self.config.feature_distance, self.config.model.encoder
        if settings is None:
            return []
        if not encoder.get("weights") and not encoder.get("pretrained"):
            raise ValueError(
                "feature_distance is to pretrained features, but model.encoder starts at random; give "
                "model.encoder.weights=PATH or .pretrained=true, or set feature_distance=null"
            )
        for thing in settings.things:
            if thing not in {*self.classes, *THINGS}:
                raise ValueError(f"feature_distance.things: no class '{thing}'; {nearest(thing, self.classes)}")
        return [i for i, name in enumerate(self.classes) if name in settings.things]

    def with_feature_distance(self, criterion: Criterion, pretrained: nn.Module) -> FeatureDistance:
        """A criterion that also keeps the features of things near those of the pretrained encoder."""
        settings, autocast = self.config.feature_distance, self.accelerator.autocast
        return FeatureDistance(criterion, pretrained, self.things(), settings.strength, settings.min_ratio, autocast)

    def statistics(self, method: str) -> Statistics | None:
        """Build the statistics of both domains on the device, source first; None for a method without."""
        device = self.accelerator.device
        if method != "blda":
            return None
        return self.source_statistics().to(device), self.target_statistics().to(device)

    def balanced_loss(self, statistics: Statistics) -> BalancedLoss:
        """Build the balanced loss around the statistics of both domains."""
        return BalancedLoss(*statistics, self.config.blda.tau, self.config.blda.correct_target)

    def statistics_settings(self, domain: str) -> dict[str, Any]:
        """Keywords of `LogitStatistics`."""
        blda = self.config.blda
        return {
            "num_classes": len(self.classes),
            "components": blda.components,
            "momentum": blda.momentum,
            "warmup": blda.warmup,
            "min_pixels": blda.min_pixels,
            "seed": seeding.seed_of(self.config.seed, domain),
            "soft_counting": blda.by_belief,
        }

    @property
    def balances(self) -> bool:
        """Whether any method of this run has statistics."""
        return "blda" in (self.config.method, *self.config.compare)

    # What time, or a classifier, replaces:

    def source_statistics(self) -> LogitStatistics:
        """Statistics of the source's logits."""
        return LogitStatistics(**self.statistics_settings("source"))

    def target_statistics(self) -> LogitStatistics:
        """Statistics of the target's logits."""
        return LogitStatistics(**self.statistics_settings("target"))
