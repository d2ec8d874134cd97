"""Logit statistics of a domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from blda.balance.logit_statistics import LogitStatistics
from blda.balance.pooled_statistics import PooledStatistics
from blda.build.reader_factory import class_names
from blda.config.classification import ClassifyConfig
from blda.config.schema import Config
from blda.data import seeding

StatisticsFactory = Callable[[Config, str], LogitStatistics]
"""From a config and a domain, "source" or "target", to its statistics at the start."""


def image_statistics(config: Config, domain: str) -> LogitStatistics:
    """Build the statistics of single images."""
    return LogitStatistics(**statistics_arguments(config, domain))


def pooled_statistics(config: ClassifyConfig, domain: str) -> PooledStatistics:
    """Build the statistics that remember past batches, as a batch has only a few images of a class."""
    return PooledStatistics(**statistics_arguments(config, domain), memory=config.classification.memory)


def statistics_arguments(config: Config, domain: str) -> dict[str, Any]:
    """Return the keywords of `LogitStatistics`."""
    blda = config.blda
    return {
        "num_classes": len(class_names(config)),
        "components": blda.components,
        "momentum": blda.momentum,
        "warmup": blda.warmup,
        "min_pixels": blda.min_pixels,
        "seed": seeding.seed_of(config.seed, domain),
        "soft_counting": blda.by_belief,
    }


def balances(config: Config) -> bool:
    """Return whether any method of this run has statistics."""
    return "blda" in config.methods
