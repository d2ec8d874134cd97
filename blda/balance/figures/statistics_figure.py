"""Figures of the statistics of both domains: an overview of all classes, or a close-up of the cells of a few."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from blda.balance.bias_agreement import rank_correlation
from blda.balance.figures import cells, panels
from blda.balance.figures.cells import NEGATIVE, POSITIVE, Cells
from blda.balance.figures.panels import MOST_NAMES, TEXT, TITLE
from blda.balance.logit_statistics import LogitStatistics

MOST_CLOSE = 8
"""Largest number of classes that `closeup` draws."""

_ROWS_WIDTH = 8  # width of the rows in inches; the matrices left of them are as wide as the figure is high
_POINTS = 240  # points of a curve
_TRIM = 0.04  # largest share of the cells whose ends lie outside an axis


def overview(
    source: LogitStatistics,
    target: LogitStatistics,
    classes: Sequence[str],
    tau: float | None = None,
    truth: Tensor | None = None,
) -> Figure:
    """Draw the statistics of all classes.

    The left half shows all cells: medians of both domains, their difference, and the correction of the target. The
    right half has a row for each class: its positive and negative logits, the source's anchors, and its bias. Of more
    than 40 classes, those with the largest bias have a row.

    source, target: statistics of the two domains.
    classes: the C class names.
    tau: strength of the correction, for the title.
    truth: measured bias, (C,), nan where unknown.
    The same arguments give the same pixels, at most 1880 x 1080.
    """
    own, other, names = cells.cells(source), cells.cells(target), tuple(classes)
    rows = _row_classes(own, other)
    height = 2.4 + max(5, 0.21 * len(rows), min(0.3 * len(rows), 6))
    figure = _canvas(height + _ROWS_WIDTH, height)
    title = f"Logit statistics: C = {len(names)}, source after {own.updates} updates, target after {other.updates}"
    figure.suptitle(title if tau is None else f"{title}, τ = {tau:g}", fontsize=12)
    left, right = figure.subfigures(1, 2, width_ratios=(height, _ROWS_WIDTH))
    _matrices(left, own, other, names)
    _rows(right, own, other, [names[row] for row in rows], rows)
    _bias(right, own, other, len(names), rows, truth)
    panels.legend(figure, bands=True, truth=truth is not None)
    return figure


def closeup(source: LogitStatistics, target: LogitStatistics, classes: Sequence[str], chosen: Sequence[str]) -> Figure:
    """Draw the cells of a few classes as a grid: densities of both domains and the anchor, and the correction Delta(z).

    Rows are the class of the pixels, columns the logit.

    source, target: statistics of the two domains.
    classes: the C class names.
    chosen: names of 1 to MOST_CLOSE of them; ValueError for other names or numbers.
    """
    if unknown := [name for name in chosen if name not in classes]:
        raise ValueError(f"no class {', '.join(unknown)}; the run has {', '.join(classes)}")
    if not 0 < len(chosen) <= MOST_CLOSE:
        raise ValueError(f"a close-up of {len(chosen)} classes is not readable; choose 1 to {MOST_CLOSE}")
    own, other = cells.cells(source), cells.cells(target)
    count, index = len(chosen), [tuple(classes).index(name) for name in chosen]
    figure = _canvas(max(2 + 2.6 * count, 7), 1.2 + 2.6 * count)
    axes = figure.subplots(2 * count, count, squeeze=False, height_ratios=(3, 2) * count)
    for i, label in enumerate(index):
        for j, channel in enumerate(index):
            _cell(axes[2 * i, j], axes[2 * i + 1, j], own, other, label, channel)
        axes[2 * i, 0].set_ylabel(f"labelled\n{chosen[i]}", fontsize=TITLE)
        axes[2 * i + 1, 0].set_ylabel("Δ(z)", fontsize=TITLE)
        axes[0, i].set_title(f"logit of {chosen[i]}", fontsize=TITLE)
    panels.legend(figure, bands=False, truth=False)
    return figure


def pixels(figure: Figure) -> Tensor:
    """Render a figure as an image (3, H, W) uint8."""
    figure.canvas.draw()
    return torch.from_numpy(np.array(figure.canvas.buffer_rgba()))[..., :3].permute(2, 0, 1).contiguous()


def _canvas(width: float, height: float) -> Figure:
    """Create an empty figure, of a size in inches, without matplotlib's global state."""
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _row_classes(own: Cells, other: Cells) -> list[int]:
    """Choose the classes that have a row: from over- to under-predicted, those never estimated last."""
    known = own.estimated | other.estimated
    bias = torch.where(other.bias.isnan(), own.bias, other.bias).nan_to_num(0.0)
    largest = torch.where(known, bias.abs(), -1.0).argsort(descending=True, stable=True)[:MOST_NAMES]
    return largest[torch.where(known, bias, -2.0)[largest].argsort(descending=True, stable=True)].tolist()


def _matrices(figure: SubFigure, own: Cells, other: Cells, names: Sequence[str]) -> None:
    """Draw the four matrices of medians, their difference and the correction."""
    difference, correction = other.median - own.median, cells.median_correction(other, own)
    medians = panels.span(torch.cat((own.median, other.median)))
    grid = (
        (own.median, "median logit, source", medians),
        (other.median, "median logit, target", medians),
        (difference, "target − source", panels.symmetric(difference)),
        (correction, "correction Δ of the target at its median", panels.symmetric(correction)),
    )
    for axis, (values, title, norm) in zip(figure.subplots(2, 2).flat, grid, strict=True):
        image = panels.matrix(axis, values, title, norm)
        panels.name_cells(axis, names, (own.estimated & other.estimated).tolist())
        axis.label_outer()
        bar = figure.colorbar(image, cax=axis.inset_axes((1.03, 0, 0.035, 1)))
        bar.ax.tick_params(labelsize=TEXT, length=2)
        bar.outline.set_visible(False)
    figure.supylabel("pixels labelled", fontsize=TITLE)
    figure.supxlabel("logit of", fontsize=TITLE)


def _rows(figure: SubFigure, own: Cells, other: Cells, names: Sequence[str], rows: list[int]) -> None:
    """Draw positive and negative logits in two of three columns that share their rows; the third is for the bias.

    rows: indices of the classes, from the top. names: their names.
    """
    axes = figure.subplots(1, 3, sharey=True)
    titles = ("its logit where it is the label", "its logit where another is")
    for axis, anchor, title in zip(axes, (POSITIVE, NEGATIVE), titles, strict=False):
        anchored = own.anchor_quantiles[anchor]
        ends = [domain.quantiles[domain.labels(row, anchor), row] for domain in (own, other) for row in rows]
        edges = _axis(torch.cat(ends), anchored)
        ridges = [[domain.class_density(row, anchor, edges) for row in rows] for domain in (own, other)]
        panels.ridges(axis, edges, *ridges)
        panels.anchor(axis, edges, own.anchor_density(anchor, edges), anchored, bottom=len(rows))
        axis.set_xlim(float(edges[0]), float(edges[-1]))
        axis.set_xlabel("logit", fontsize=TEXT)
        axis.set_title(title, fontsize=TITLE)
    panels.name_rows(axes[0], names, (own.estimated & other.estimated)[rows].tolist())
    for axis in axes:
        axis.tick_params(labelsize=TEXT, length=2)
        axis.tick_params(axis="y", length=0)
        axis.spines[["top", "right"]].set_visible(False)


def _bias(figure: SubFigure, own: Cells, other: Cells, count: int, rows: list[int], truth: Tensor | None) -> None:
    """Draw the bias of the classes `rows`, of `count` in all, into the last column."""
    axis = figure.axes[-1]
    panels.bars(axis, own.bias[rows], other.bias[rows], None if truth is None else truth[rows])
    title = "bias" if len(rows) == count else f"bias, {len(rows)} largest of {count}"
    axis.set_title(title, fontsize=TITLE)
    if truth is not None:
        correlation = rank_correlation(other.bias, truth, other.estimated)
        axis.set_xlabel(f"rank correlation target / measured: {correlation:.2f}", fontsize=TEXT)


def _cell(top: Axes, bottom: Axes, own: Cells, other: Cells, label: int, channel: int) -> None:
    """Draw the densities of one cell into `top` and its corrections into `bottom`."""
    anchor = POSITIVE if label == channel else NEGATIVE
    ends = torch.stack([domain.quantiles[label, channel] for domain in (own, other)])
    edges = _axis(ends, own.anchor_quantiles[anchor])
    panels.ridge(top, edges, own.anchor_density(anchor, edges), 0, panels.ANCHOR)
    for domain, colour in ((own, panels.SOURCE), (other, panels.TARGET)):
        panels.ridge(top, edges, domain.density(label, channel, edges), 0, colour)
        low, _, high = domain.quantiles[label, channel]
        delta = cells.correction(domain, own, label, channel, edges)
        panels.curve(bottom, edges, delta, (low <= edges) & (edges <= high), colour)
    top.set(ylim=(0, None), yticks=[], xticklabels=[])
    if not (own.estimated[label] and other.estimated[label]):
        top.set_facecolor(panels.UNKNOWN)
    for axis in (top, bottom):
        axis.set_xlim(float(edges[0]), float(edges[-1]))
        axis.tick_params(labelsize=TEXT, length=2)


def _axis(ends: Tensor, anchor: Tensor) -> Tensor:
    """Return the bin edges of an axis that shows the anchor and all cells but a few distant ones.

    ends: quantiles of the cells, (M, 3). anchor: quantiles of the anchor, (3,). Both are nan where unknown.
    """
    ends = torch.cat((ends, anchor[None]))
    low = torch.nanquantile(ends[:, 0], _TRIM).fmin(anchor[0]).nan_to_num(-1)
    high = torch.nanquantile(ends[:, 2], 1 - _TRIM).fmax(anchor[2]).nan_to_num(1)
    margin = 0.04 * (high - low) + 1e-3
    return torch.linspace(float(low - margin), float(high + margin), _POINTS + 1)
