"""Check of a run's data sets before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from blda.build.data_factory import DataFactory, published_draws
from blda.build.data_overlap import examine_overlap
from blda.build.reader_factory import place
from blda.config.schema import Config
from blda.data.checks.data_report import Classes, DataReport
from blda.data.checks.dataset_check import CheckScope, CheckTarget
from blda.data.checks.dataset_check import Frames as Labelled
from blda.data.checks.label_frequencies import Shown, in_vain
from blda.data.class_statistics import ClassCounts
from blda.data.joined_dataset import JoinedDataset
from blda.data.label_map import LabelLookup


def examine(
    data: DataFactory, methods: Sequence[str], scope: CheckScope, count_rare: bool = False
) -> Iterator[DataReport]:
    """Check the data sets that these methods need, one after the other.

    Of several sources each is checked by itself, then what all of them show together, and that no evaluated frame is
    among them.
    count_rare: count the class pixels for rare-class sampling, if the run uses it, and keep them for training.
    """
    config, names, protocols = data.config, data.readers.class_names, data.readers.protocols
    adapts = set(methods) != {"source_only"}
    yield from _sources(data, scope, count_rare)
    if adapts:
        for number in range(len(config.target.members)):
            make, skip = partial(data.member, "target", number), config.data.on_error == "skip"
            yield data.check(CheckTarget(place(config, "target", number), make, names, skip_unreadable=skip), scope)
    scored = {f"protocol {p.name}": p.classes for p in protocols}
    yield data.check(CheckTarget("evaluation", data.evaluation, names, scored), scope)
    if config.source.others:
        yield examine_overlap(data, adapts)


def _sources(data: DataFactory, scope: CheckScope, count_rare: bool) -> Iterator[DataReport]:
    config, names = data.config, data.readers.class_names
    several, skip = bool(config.source.others), config.data.on_error == "skip"
    counts, reports = [], []

    def count(source: Labelled) -> ClassCounts:
        counts.append(data.class_counts(source, skip_unreadable=True))
        return counts[-1]

    more = {"count": count, "min_pixels": 0 if several else _least(config)} if count_rare and config.source.rare else {}
    # A class that one of several sources lacks is no fault; another may show it.
    wanted = ({}, ()) if several else ({"the run": names}, _needed(data))
    for number in range(len(config.source.members)):
        key, make = place(config, "source", number), partial(data.member, "source", number)
        reports.append(data.check(CheckTarget(key, make, names, *wanted, skip, **more), scope))
        yield reports[-1]
    if several and all(report.classes is not None for report in reports):
        pixels = [each.pixels for each in counts] or [_shown(report.classes) for report in reports]
        whole = all(report.classes.labels >= report.frames for report in reports)
        least = _least(config) if counts else 0
        yield _together(data, data.source(), Shown(np.concatenate(pixels), whole=whole), least)


def _shown(classes: Classes) -> np.ndarray:
    """Return for each label that was read, (labels, C), 1 for every class that any of them shows."""
    return np.tile([int(frames > 0) for frames in classes.frames.values()], (classes.labels, 1))


def examine_counts(data: DataFactory, source: Labelled | JoinedDataset, counts: ClassCounts) -> DataReport:
    """Check the class pixels of all source labels, once they are counted for rare-class sampling."""
    return _together(data, source, Shown(counts.pixels, whole=True), _least(data.config))


def _together(data: DataFactory, source: Labelled | JoinedDataset, shown: Shown, least: int) -> DataReport:
    """Check what the labels of all source data sets show."""
    names = data.readers.class_names
    members = source.members.values() if isinstance(source, JoinedDataset) else [source]
    # All ids, one data set after the other: which classes they mean is all that is asked for.
    lookup = LabelLookup(np.concatenate([each.lookup.lookup for each in members]))
    problems = in_vain({"the run": names}, _needed(data), names, lookup, shown, least)
    return DataReport("source", problems=tuple(problems))


def _needed(data: DataFactory) -> set[str]:
    """Return the classes that must occur: the scored ones, unless the config only warns."""
    stops = data.config.data.on_unseen == "stop"
    return {name for protocol in data.readers.protocols for name in protocol.classes if stops}


def _least(config: Config) -> int:
    """Return the pixels of a class that a frame needs for rare-class sampling."""
    return config.source.rare.min_pixels + published_draws(config)
