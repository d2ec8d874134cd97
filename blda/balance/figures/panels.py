"""Panels of the figures of logit statistics; each function draws one panel into the axes that it gets."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from torch import Tensor

SOURCE, TARGET, ANCHOR, UNKNOWN = "#0072B2", "#D55E00", "#404040", "#D9D9D9"
"""Colours that colour-blind readers can distinguish; UNKNOWN marks cells that were never estimated."""

TEXT, TITLE = 8, 9.5
"""Font sizes in points."""

MOST_NAMES = 40
"""Number of names that fit on an axis; of more names, every k-th is written."""

_LONGEST = 16  # largest number of letters of a name
_MOST_VALUES = 8  # largest number of classes at which every cell shows its value
_FULL = 0.92  # height of a ridge's peak, in rows


def matrix(axis: Axes, values: Tensor, title: str, norm: Normalize) -> ScalarMappable:
    """Draw a matrix (C, C) in colours, from violet to green if `norm` is symmetric, and nan in grey."""
    colours = "PRGn" if norm.vmin == -norm.vmax else "viridis"
    image = axis.imshow(values.numpy(), cmap=colours, norm=norm, interpolation="nearest", aspect="equal")
    axis.set_facecolor(UNKNOWN)
    axis.set_title(title, fontsize=TITLE)
    if len(values) <= _MOST_VALUES:
        _write_values(axis, values, image)
    return image


def name_cells(axis: Axes, names: Sequence[str], known: Sequence[bool]) -> None:
    """Write class names along both sides of a matrix, as many as fit; names of classes that are not known in grey.

    known: for each class, True if it was estimated in both domains.
    """
    ticks = range(0, len(names), -(-len(names) // MOST_NAMES))
    size = min(TEXT, max(4.5, 230 / len(ticks)))
    labels = [_short(names[i]) for i in ticks]
    axis.set_xticks(ticks, labels, rotation=90, fontsize=size, parse_math=False)
    axis.set_yticks(ticks, labels, fontsize=size, parse_math=False)
    axis.tick_params(length=1.5, pad=1.5)
    for i, label in zip(ticks, axis.get_yticklabels(), strict=True):
        _mark(label, known[i])


def span(values: Tensor) -> Normalize:
    """Return the colour range from the 1 % to the 99 % quantile of the finite values, so that outliers are clipped."""
    finite = values[values.isfinite()]
    if not len(finite):
        return Normalize(-1, 1)
    low, high = torch.quantile(finite, torch.tensor([0.01, 0.99])).tolist()
    return Normalize(low - 1e-3, high + 1e-3)


def symmetric(values: Tensor) -> Normalize:
    """Return a colour range centred at zero, up to the 98 % quantile of the absolute finite values."""
    finite = values[values.isfinite()].abs()
    limit = max(float(torch.quantile(finite, 0.98)), 1e-3) if len(finite) else 1
    return Normalize(-limit, limit)


def ridges(axis: Axes, edges: Tensor, source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    """Draw the densities of both domains as ridges, one row for each class from the top.

    source, target: for each class, a density (N,) on N + 1 edges; each is scaled to the same peak height.
    """
    for row, pair in enumerate(zip(source, target, strict=True)):
        bottom = len(source) - 1 - row
        axis.axhline(bottom, color="0.85", linewidth=0.5, zorder=0)
        for density, colour in zip(pair, (SOURCE, TARGET), strict=True):
            ridge(axis, edges, density, bottom, colour)


def ridge(axis: Axes, edges: Tensor, density: Tensor, bottom: float, colour: str, height: float = _FULL) -> None:
    """Draw one density (N,) as a ridge of a given peak height; nothing is drawn if it is nan.

    A remark is written if most of the density lies outside the axis.
    """
    if not density.isfinite().all():
        return
    if (density * edges.diff()).sum() < 0.5:
        place = {"transform": axis.get_yaxis_transform(), "ha": "right", "fontsize": TEXT - 2, "color": colour}
        axis.text(0.98, bottom + 0.1 * height, "beyond this axis", **place)
    middle, curve = (edges[1:] + edges[:-1]) / 2, bottom + height * density / density.max().clamp_min(1e-6)
    axis.fill_between(middle.numpy(), bottom, curve.numpy(), color=colour, alpha=0.25, linewidth=0, zorder=1)
    axis.plot(middle.numpy(), curve.numpy(), color=colour, linewidth=1, zorder=2)


def anchor(axis: Axes, edges: Tensor, density: Tensor, quantiles: Tensor, bottom: float) -> None:
    """Draw an anchor's density in its row, and its 1 %, 50 % and 99 % quantiles (3,) behind all rows."""
    low, median, high = quantiles.tolist()
    if math.isnan(median):
        axis.text(0.5, 0.5, "never estimated", ha="center", color="0.6", fontsize=TEXT, transform=axis.transAxes)
        return
    axis.axvspan(low, high, color=ANCHOR, alpha=0.07, linewidth=0, zorder=0)
    axis.axvline(median, color=ANCHOR, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    ridge(axis, edges, density, bottom, ANCHOR)


def curve(axis: Axes, values: Tensor, delta: Tensor, common: Tensor, colour: str) -> None:
    """Draw a correction over logits.

    values, delta: logits and their corrections, (N,).
    common: (N,) bool; the curve is bold where logits are common, and thin beyond the clipped quantiles.
    """
    axis.plot(values.numpy(), delta.numpy(), color=colour, linewidth=0.7, alpha=0.4)
    axis.plot(values.numpy(), torch.where(common, delta, torch.nan).numpy(), color=colour, linewidth=1.6)
    axis.axhline(0, color="0.3", linewidth=0.8, zorder=0)
    axis.grid(color="0.9", linewidth=0.6)


def bars(axis: Axes, source: Tensor, target: Tensor, truth: Tensor | None) -> None:
    """Draw the bias of both domains (N,) as bars from the top, and the measured bias `truth` (N,) as marks."""
    middle = torch.arange(len(source) - 1, -1, -1) + _FULL / 2
    axis.axvline(0, color="0.3", linewidth=0.8, zorder=0)
    for values, colour, shift in ((source, SOURCE, 0.2), (target, TARGET, -0.2)):
        axis.barh((middle + shift).numpy(), values.nan_to_num(0.0).numpy(), height=0.36, color=colour, alpha=0.8)
    if truth is not None:
        axis.plot(truth.numpy(), middle.numpy(), "D", color="black", markersize=4, zorder=3)
    axis.grid(axis="x", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)


def name_rows(axis: Axes, names: Sequence[str], known: Sequence[bool]) -> None:
    """Write the names of ridges from the top, below the anchor's; names of classes that are not known in grey.

    known: for each class, True if it was estimated in both domains.
    """
    heights = [len(names) - row for row in range(len(names) + 1)]
    labels = ["anchor", *map(_short, names)]
    axis.set_yticks([at + _FULL / 3 for at in heights], labels, fontsize=TEXT, parse_math=False)
    axis.set_ylim(-0.2, len(names) + 1)
    for label, is_known in zip(axis.get_yticklabels()[1:], known, strict=True):
        _mark(label, is_known)


def legend(figure: Figure, bands: bool, truth: bool) -> None:
    """Draw the legend of colours and marks below the figure.

    bands: explain the band of the anchor's quantiles. truth: explain the marks of measured bias.
    """
    handles = [
        Patch(color=SOURCE, alpha=0.6, label="source"),
        Patch(color=TARGET, alpha=0.6, label="target"),
        Patch(color=ANCHOR, alpha=0.6, label="anchor: all classes of the source"),
        Patch(color=UNKNOWN, label="never estimated"),
    ]
    if bands:
        handles.insert(3, Patch(color=ANCHOR, alpha=0.1, label="its 1 % to 99 %"))
    if truth:
        handles.append(Line2D([], [], marker="D", color="black", ls="", ms=4, label="bias measured with labels"))
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=TITLE, frameon=False)


def _short(name: str) -> str:
    """Shorten a long class name."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _mark(label: Text, known: bool) -> None:
    """Make the label of a class that is not known grey and italic."""
    if not known:
        label.set(color="0.6", fontstyle="italic")


def _write_values(axis: Axes, values: Tensor, image: ScalarMappable) -> None:
    """Write the finite values into their cells, in black or white by the brightness of the cell."""
    for row, column in values.isfinite().nonzero().tolist():
        value = float(values[row, column])
        red, green, blue, _ = image.to_rgba(value)
        ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
        axis.text(column, row, f"{value:.1f}", ha="center", va="center", color=ink, fontsize=TEXT)
