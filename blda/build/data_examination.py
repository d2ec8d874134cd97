"""Check of a run's data sets before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from blda.build.data_factory import DataFactory, published_draws
from blda.config.schema import Config
from blda.data.checks.data_report import DataReport
from blda.data.checks.dataset_check import CheckScope, CheckTarget
from blda.data.checks.dataset_check import Frames as Labelled
from blda.data.checks.label_frequencies import Shown, in_vain
from blda.data.class_statistics import ClassCounts


def examine(
    data: DataFactory, methods: Sequence[str], scope: CheckScope, count_rare: bool = False
) -> Iterator[DataReport]:
    """Check the data sets that these methods need, one after the other.

    count_rare: count the class pixels for rare-class sampling, if the run uses it, and keep them for training.
    """
    config, names, protocols = data.config, data.readers.class_names, data.readers.protocols
    skip, counted = config.data.on_error == "skip", {}
    if count_rare and config.source.rare:
        counted = {"count": partial(data.class_counts, skip_unreadable=True), "min_pixels": _least(config)}
    learnt, scored = {"the run": names}, {f"protocol {p.name}": p.classes for p in protocols}
    yield data.check(CheckTarget("source", data.source, names, learnt, _needed(data), skip, **counted), scope)
    if set(methods) != {"source_only"}:
        yield data.check(CheckTarget("target", data.target, names, skip_unreadable=skip), scope)
    yield data.check(CheckTarget("evaluation", data.evaluation, names, scored), scope)


def examine_counts(data: DataFactory, source: Labelled, counts: ClassCounts) -> DataReport:
    """Check the class pixels of all source labels, once they are counted for rare-class sampling."""
    names, shown = data.readers.class_names, Shown(counts.pixels, whole=True)
    problems = in_vain({"the run": names}, _needed(data), names, source.lookup, shown, _least(data.config))
    return DataReport("source", problems=tuple(problems))


def _needed(data: DataFactory) -> set[str]:
    """Return the classes that must occur: the scored ones, unless the config only warns."""
    stops = data.config.data.on_unseen == "stop"
    return {name for protocol in data.readers.protocols for name in protocol.classes if stops}


def _least(config: Config) -> int:
    """Return the pixels of a class that a frame needs for rare-class sampling."""
    return config.source.rare.min_pixels + published_draws(config)
