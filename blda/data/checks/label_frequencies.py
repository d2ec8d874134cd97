"""Frequencies of raw ids and classes in the labels of a data set, and required classes that no label shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from blda.data.checks.data_report import Classes, Problem, UnknownId
from blda.data.label_map import LabelLookup
from blda.data.sample import IGNORE

FEW = 8
"""With fewer labels a class that none shows is no mistake yet: someone tries out a handful of images."""
Ids = Mapping[int, int]
"""Raw id -> pixels of one label."""


def count_ids(raw: np.ndarray) -> dict[int, int]:
    """Count the pixels of each raw id that occurs in a label (H, W)."""
    if raw.dtype == np.uint8:
        pixels = np.bincount(raw.ravel(), minlength=256)
        return {int(i): int(pixels[i]) for i in np.flatnonzero(pixels)}
    return dict(zip(*(values.tolist() for values in np.unique(raw, return_counts=True)), strict=True))


def pixels_of(labels: Iterable[Ids], lookup: LabelLookup, num_classes: int) -> np.ndarray:
    """Count the pixels of each class in each label: (labels, classes) int64."""
    rows = []
    for ids in labels:
        rows.append(np.zeros(num_classes, np.int64))
        for raw, count in ids.items():
            if 0 <= _meaning(lookup, raw) < num_classes:
                rows[-1][_meaning(lookup, raw)] += count
    return np.array(rows, np.int64).reshape(-1, num_classes)


def without_class(labels: Iterable[Ids], lookup: LabelLookup | None) -> dict[int, int]:
    """Count the pixels of each legal raw id that has no class in the run, over all labels."""
    result: Counter[int] = Counter()
    for ids in labels:
        result.update({raw: count for raw, count in ids.items() if _meaning(lookup, raw) == IGNORE})
    return dict(sorted(result.items()))


def unknown_ids(labels: Mapping[str, Ids], lookup: LabelLookup | None) -> Iterator[UnknownId]:
    """Yield the ids in label files that the data set does not declare."""
    for file, ids in labels.items():
        for raw, count in ids.items():
            if _meaning(lookup, raw) < 0:
                yield UnknownId(file, raw, count)


def classes_of(pixels: np.ndarray, classes: Sequence[str]) -> Classes:
    """Compute shares and frame counts of classes from pixels (labels, classes)."""
    sums = pixels.sum(axis=0)
    share = (100 * sums / max(sums.sum(), 1)).tolist()
    frames = (pixels > 0).sum(axis=0).tolist()
    return Classes(len(pixels), dict(zip(classes, share, strict=True)), dict(zip(classes, frames, strict=True)))


@dataclass(frozen=True)
class Shown:
    """Content of the labels that were read.

    pixels: (labels, classes). raw: ids that occur, as far as known. whole: all labels of the data set were read.
    enough: so many labels were read that training could not work if a required class occurs in none.
    """

    pixels: np.ndarray
    raw: Collection[int] = ()
    whole: bool = False
    enough: bool = True


def in_vain(
    asked: Mapping[str, Collection[str]],
    needed: Collection[str],
    classes: Sequence[str],
    lookup: LabelLookup,
    shown: Shown,
    min_pixels: int = 0,
) -> Iterator[Problem]:
    """Yield a problem for each required class that no label shows.

    asked: who needs classes -> the classes. needed: classes whose absence is an error.
    min_pixels: pixels of a class that a frame needs for rare-class sampling.
    """
    most = dict(zip(classes, shown.pixels.max(axis=0).tolist(), strict=True))
    labels, binary = len(shown.pixels), _binary(shown.raw, lookup)
    if not any(most.values()):
        text = f"none of {labels} labels shows a class of the run; {binary or 'check ids and rename of the data set'}"
        yield Problem("classes", text, shown.enough)
        return
    known = {classes[i] for i in set(lookup.lookup.tolist()) if 0 <= i < len(classes)}
    for who, wanted in asked.items():
        if lacking := [name for name in wanted if name not in known]:
            text = f"{who} has {', '.join(lacking)}, for which the data set has no id: nothing to learn or score"
            yield Problem("classes", f"{text}; leave them out, or add ids or a rename", bool({*lacking} & {*needed}))
        if unseen := [name for name in wanted if name in known and not most[name]]:
            fatal = shown.whole and labels >= FEW and bool({*unseen} & {*needed})
            fatal = fatal or (shown.enough and not any(most[name] for name in wanted if name in known))
            text = f"{who} has {', '.join(unseen)}, which none of {labels} labels shows"
            fix = "look into more labels, or leave them out"
            if shown.whole:
                fix = f"leave them out of classes and protocols{', or set data.on_unseen=warn' if fatal else ''}"
            yield Problem("classes", f"{text}; {binary or fix}", fatal)
    if rare := [f"{name} (at most {count})" for name, count in most.items() if 0 < count < min_pixels]:
        text = f"rare-class sampling never draws {', '.join(rare)}: no frame shows {min_pixels} pixels"
        yield Problem("rare classes", f"{text}; lower source.rare.min_pixels", max(most.values()) < min_pixels)


def _binary(raw: Collection[int], lookup: LabelLookup) -> str:
    """Return the fix for binary masks whose value 255 is ignored by mistake; empty for other labels."""
    if {*raw} != {0, 255} or _meaning(lookup, 255) != IGNORE:
        return ""
    return (
        "the labels hold 0 and 255 alone, as binary masks do, and 255 is ignored: declare it, with "
        "ids: {0: ONE_CLASS, 255: OTHER_CLASS} and ignored: []"
    )


def _meaning(lookup: LabelLookup, raw: int) -> int:
    """Return the class index of a raw id, IGNORE, or -1 for an id that is not legal."""
    return int(lookup.lookup[raw]) if 0 <= raw < len(lookup.lookup) else -1
