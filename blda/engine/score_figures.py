"""Scores as pictures: measures of every class as bars, and the confusion matrix.

Figures are drawn without matplotlib's global state, so none stays open.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from blda.engine.label_colors import colours

MOST_WRITTEN = 25
"""Largest number of classes whose cells of the confusion matrix are written out."""
_TEXT = 8


def measures(scores: Mapping[str, float], class_names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Collect the measures that scores give per class: measure -> class -> value, from keys MEASURE/CLASS."""
    found: dict[str, dict[str, float]] = {}
    for key, value in scores.items():
        measure, _, name = key.partition("/")
        if name in class_names:
            found.setdefault(measure, {})[name] = value
    return found


def class_bars(values: Mapping[str, Mapping[str, float]], class_names: Sequence[str]) -> Tensor:
    """Draw measures in percent as bars in the classes' colours: a column for each measure, a row for each class.

    values: measure -> class -> value, nan where unknown. Returns an image (3, H, W) uint8.
    """
    names = [name for name in class_names if any(name in each for each in values.values())]
    table = dict(zip(class_names, colours(tuple(class_names)), strict=True))
    paint = [tuple(part / 255 for part in table[name]) for name in names]
    figure = _canvas(2 + 3 * len(values), 1 + 0.24 * len(names))
    axes = figure.subplots(1, len(values), sharey=True, squeeze=False)[0]
    for axis, (measure, of_class) in zip(axes, values.items(), strict=True):
        numbers = [of_class.get(name, math.nan) for name in names]
        axis.barh(range(len(names)), np.nan_to_num(numbers), color=paint, edgecolor="0.5", linewidth=0.5)
        for row, number in enumerate(numbers):
            text = "-" if math.isnan(number) else f"{number:.1f}"
            axis.text(max(np.nan_to_num(number), 0) + 1, row, text, va="center", fontsize=_TEXT)
        axis.set(xlim=(0, 112), xticks=(0, 25, 50, 75, 100), yticks=range(len(names)), ylim=(len(names) - 0.4, -0.6))
        axis.set_yticklabels(names, fontsize=_TEXT)
        axis.tick_params(axis="x", labelsize=_TEXT)
        axis.set_title(f"{measure}, percent", fontsize=_TEXT + 1)
        axis.spines[["top", "right"]].set_visible(False)
    return _pixels(figure)


def confusion(counts: Tensor, class_names: Sequence[str]) -> Tensor:
    """Draw a confusion matrix, each row as shares of the true class in percent.

    counts: (C, C), rows = truth, columns = prediction. Rows of classes without truth are empty. Returns an image
    (3, H, W) uint8.
    """
    shares = 100 * rows_normalised(counts).numpy()
    count = len(class_names)
    side = min(max(3.5, 0.42 * count), 12)
    figure = _canvas(side + 1.6, side + 1.2)
    axis = figure.subplots()
    axis.imshow(np.nan_to_num(shares), cmap="Blues", vmin=0, vmax=100)
    size = _TEXT if count <= MOST_WRITTEN else max(2, _TEXT * 40 // (count + 20))
    axis.set_xticks(range(count), class_names, rotation=90, fontsize=size)
    axis.set_yticks(range(count), class_names, fontsize=size)
    axis.tick_params(length=0)
    axis.set_xlabel("predicted", fontsize=_TEXT + 1)
    axis.set_ylabel("truth, each row in percent", fontsize=_TEXT + 1)
    if count <= MOST_WRITTEN:
        for row, column in np.argwhere(shares >= 0.5).tolist():
            ink = "white" if shares[row, column] > 55 else "black"
            axis.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", color=ink, fontsize=_TEXT)
    return _pixels(figure)


def rows_normalised(counts: Tensor) -> Tensor:
    """Divide each row of counts (C, C) by its sum; nan in rows without a pixel."""
    counts = counts.double()
    return counts / counts.sum(1, keepdim=True)


def _canvas(width: float, height: float) -> Figure:
    """Create an empty figure, of a size in inches."""
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _pixels(figure: Figure) -> Tensor:
    """Render a figure as an image (3, H, W) uint8."""
    figure.canvas.draw()
    return torch.from_numpy(np.array(figure.canvas.buffer_rgba()))[..., :3].permute(2, 0, 1).contiguous()
