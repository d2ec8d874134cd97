"""Scores as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def of_classes(columns: Mapping[str, Mapping[str, float]], classes: Sequence[str]) -> str:
    """IoU and accuracy per class in percent, one pair of columns for each named run.

    columns: run -> its scores, with keys iou/CLASS, acc/CLASS, mIoU, mAcc, std. Classes that no run has are left
    out. With several runs, a last column tells how far the last is ahead of the first in IoU.
    """
    runs = list(columns)
    shown = [name for name in classes if any(f"iou/{name}" in scores for scores in columns.values())]
    rows = [(name, f"iou/{name}", f"acc/{name}") for name in shown]
    rows += [("mean", "mIoU", "mAcc"), ("std over classes", "std", "")]
    left = max(len(row[0]) for row in rows)
    width = max(13, *(len(run) for run in runs)) if runs else 13
    lines = [" " * left + "".join(f"  {run:>{width}}" for run in runs) + ("    gain" if len(runs) > 1 else "")]
    lines.append(" " * left + f"  {'IoU    acc':>{width}}" * len(runs))
    for title, iou, accuracy in rows:
        cells = [f"{_percent(columns[run].get(iou))} {_percent(columns[run].get(accuracy))}" for run in runs]
        line = f"{title:<{left}}" + "".join(f"  {cell:>{width}}" for cell in cells)
        if len(runs) > 1:
            line += f"  {_gain(columns[runs[0]].get(iou), columns[runs[-1]].get(iou)):>6}"
        lines.append(line)
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "     -" if value is None or math.isnan(value) else f"{value:6.2f}"


def _gain(first: float | None, last: float | None) -> str:
    if first is None or last is None or math.isnan(first) or math.isnan(last):
        return "-"
    return f"{last - first:+.2f}"
