"""Table of scores for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

MEASURES = (("IoU", "iou", "mIoU"), ("acc", "acc", "mAcc"))
"""Heading, key of a class before its name, key of the mean."""


def of_classes(columns: Mapping[str, Mapping[str, float]], classes: Sequence[str]) -> str:
    """Format IoU and accuracy per class in percent, or a classifier's accuracy, one column for each named run.

    columns: run -> its scores, with keys iou/CLASS, acc/CLASS, mIoU, mAcc, std, accuracy, mIoU_classes,
    protocol_classes. Measures and classes without a number in any run are left out. A line marks a mean over fewer
    classes than the protocol's, and names the others. With several runs, the last column is the lead of the last run
    over the first in the first measure.
    """
    runs, scores = list(columns), list(columns.values())
    measures = [measure for measure in MEASURES if any(measure[2] in one for one in scores)] or MEASURES[:1]
    rows = [(name, *(f"{key}/{name}" for _, key, _ in measures)) for name in classes]
    known = [row for row in rows if any(row[1] in one for one in scores)]
    rows = [row for row in known if any(math.isfinite(one.get(key, math.nan)) for one in scores for key in row[1:])]
    rows += [("mean", *(mean for *_, mean in measures)), ("std over classes", "std")]
    rows += [("all images", "accuracy")] if any("accuracy" in one for one in scores) else []
    left = max(len(row[0]) for row in rows)
    width = max(7 * len(measures) - 1, *map(len, runs)) if runs else 0
    lines = [" " * left + "".join(f"  {run:>{width}}" for run in runs) + ("    gain" if len(runs) > 1 else "")]
    lines.append(" " * left + f"  {'    '.join(heading for heading, *_ in measures):>{width}}" * len(runs))
    for title, *keys in rows:
        keys += [""] * (len(measures) - len(keys))
        cells = [" ".join(_percent(one.get(key)) for key in keys) for one in scores]
        line = f"{title:<{left}}" + "".join(f"  {cell:>{width}}" for cell in cells)
        if len(runs) > 1:
            line += f"  {_gain(scores[0].get(keys[0]), scores[-1].get(keys[0])):>6}"
        lines.append(line)
    return "\n".join([*lines, *_fewer(columns, known, measures[0][2])])


def _fewer(columns: Mapping[str, Mapping[str, float]], rows: Sequence[Sequence[str]], mean: str) -> list[str]:
    """Return a line for each run whose mean is over fewer classes than its protocol has."""
    lines = []
    for run, scores in columns.items():
        counted, wanted = scores.get(f"{mean}_classes"), scores.get("protocol_classes")
        if counted is not None and wanted is not None and counted < wanted:
            lacking = [name for name, key, *_ in rows if "/" in key and math.isnan(scores.get(key) or 0)]
            share = f"{counted:.0f} of {wanted:.0f} classes"
            lines.append(f"{run}: {mean} is the mean over {share}; the labels lack {', '.join(lacking)}")
    return lines


def _percent(value: float | None) -> str:
    return "     -" if value is None or math.isnan(value) else f"{value:6.2f}"


def _gain(first: float | None, last: float | None) -> str:
    if first is None or last is None or math.isnan(first) or math.isnan(last):
        return "-"
    return f"{last - first:+.2f}"
