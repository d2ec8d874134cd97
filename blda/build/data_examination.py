"""Look into the data sets of a run before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from blda.build.data_factory import DataFactory, published_draws
from blda.data.checks.data_report import DataReport
from blda.data.checks.dataset_check import CheckScope, CheckTarget


def examine(
    data: DataFactory, methods: Sequence[str], scope: CheckScope, count_rare: bool = False
) -> Iterator[DataReport]:
    """Check the data sets that these methods need, one after the other.

    count_rare: count the class pixels of rare-class sampling, where the run has it, and keep them for training.
    """
    config, names, protocols = data.config, data.readers.class_names, data.readers.protocols
    skip, rare, counted = config.data.on_error == "skip", config.source.rare, {}
    if count_rare and rare:
        least = rare.min_pixels + published_draws(config)
        counted = {"count": partial(data.class_counts, skip_unreadable=True), "min_pixels": least}
    learnt, scored = {"the run": names}, {f"protocol {p.name}": p.classes for p in protocols}
    needed = {name for p in protocols for name in p.classes if config.data.on_unseen == "stop"}
    yield data.check(CheckTarget("source", data.source, names, learnt, needed, skip, **counted), scope)
    if set(methods) != {"source_only"}:
        yield data.check(CheckTarget("target", data.target, names, skip_unreadable=skip), scope)
    yield data.check(CheckTarget("evaluation", data.evaluation, names, scored), scope)
