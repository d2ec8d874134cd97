"""Single panels of the figures of logit statistics, each drawn into the axes it is given."""

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
"""Colours that the colour-blind tell apart too; UNKNOWN is what was never estimated."""

TEXT, TITLE = 8, 9.5
"""Font sizes in points."""

MOST_NAMES = 40
"""Names that fit on an axis; of more, every k-th is written."""

_LONGEST = 16  # letters of a name
_MOST_VALUES = 8  # classes up to which every cell carries its number
_FULL = 0.92  # height of the tallest point of a ridge, in rows


def matrix(axis: Axes, values: Tensor, title: str, norm: Normalize) -> ScalarMappable:
    """A (C, C) matrix in colours, from violet to green where `norm` is symmetric; grey where it is nan."""
    colours = "PRGn" if norm.vmin == -norm.vmax else "viridis"
    image = axis.imshow(values.numpy(), cmap=colours, norm=norm, interpolation="nearest", aspect="equal")
    axis.set_facecolor(UNKNOWN)
    axis.set_title(title, fontsize=TITLE)
    if len(values) <= _MOST_VALUES:
        _write_values(axis, values, image)
    return image


def name_cells(axis: Axes, names: Sequence[str], known: Sequence[bool]) -> None:
    """Class names along both sides of a matrix, as many as fit; in grey what was not estimated in both domains."""
    ticks = range(0, len(names), -(-len(names) // MOST_NAMES))
    size = min(TEXT, max(4.5, 230 / len(ticks)))
    shown = [_short(names[i]) for i in ticks]
    axis.set_xticks(ticks, shown, rotation=90, fontsize=size, parse_math=False)
    axis.set_yticks(ticks, shown, fontsize=size, parse_math=False)
    axis.tick_params(length=1.5, pad=1.5)
    for i, label in zip(ticks, axis.get_yticklabels(), strict=True):
        _mark(label, known[i])


def span(values: Tensor) -> Normalize:
    """Nearly the range of the finite values: a few outliers do not wash out the rest."""
    finite = values[values.isfinite()]
    if not len(finite):
        return Normalize(-1, 1)
    low, high = torch.quantile(finite, torch.tensor([0.01, 0.99])).tolist()
    return Normalize(low - 1e-3, high + 1e-3)


def symmetric(values: Tensor) -> Normalize:
    """As `span`, centred at zero."""
    finite = values[values.isfinite()].abs()
    limit = max(float(torch.quantile(finite, 0.98)), 1e-3) if len(finite) else 1
    return Normalize(-limit, limit)


def ridges(axis: Axes, edges: Tensor, source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    """Densities of both domains, one row for each class from the top; each (N,) on N + 1 edges, of its own height."""
    for row, pair in enumerate(zip(source, target, strict=True)):
        bottom = len(source) - 1 - row
        axis.axhline(bottom, color="0.85", linewidth=0.5, zorder=0)
        for result, colour in zip(pair, (SOURCE, TARGET), strict=True):
            ridge(axis, edges, result, bottom, colour)


def ridge(axis: Axes, edges: Tensor, found: Tensor, bottom: float, colour: str, height: float = _FULL) -> None:
    """One density (N,) as a hill on its line; nothing where it is nan, a word where most of it lies off the axis."""
    if not found.isfinite().all():
        return
    if (found * edges.diff()).sum() < 0.5:
        place = {"transform": axis.get_yaxis_transform(), "ha": "right", "fontsize": TEXT - 2, "color": colour}
        axis.text(0.98, bottom + 0.1 * height, "beyond this axis", **place)
    middle, curve = (edges[1:] + edges[:-1]) / 2, bottom + height * found / found.max().clamp_min(1e-6)
    axis.fill_between(middle.numpy(), bottom, curve.numpy(), color=colour, alpha=0.25, linewidth=0, zorder=1)
    axis.plot(middle.numpy(), curve.numpy(), color=colour, linewidth=1, zorder=2)


def anchor(axis: Axes, edges: Tensor, found: Tensor, quantiles: Tensor, bottom: float) -> None:
    """An anchor's density on its own row, and its 1 %, 50 % and 99 % quantiles behind all others."""
    low, median, high = quantiles.tolist()
    if math.isnan(median):
        axis.text(0.5, 0.5, "never estimated", ha="center", color="0.6", fontsize=TEXT, transform=axis.transAxes)
        return
    axis.axvspan(low, high, color=ANCHOR, alpha=0.07, linewidth=0, zorder=0)
    axis.axvline(median, color=ANCHOR, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    ridge(axis, edges, found, bottom, ANCHOR)


def curve(axis: Axes, values: Tensor, found: Tensor, common: Tensor, colour: str) -> None:
    """A correction (N,) over logits: strong where these are common (N,) bool, faint where the clip alone shapes it."""
    axis.plot(values.numpy(), found.numpy(), color=colour, linewidth=0.7, alpha=0.4)
    axis.plot(values.numpy(), torch.where(common, found, torch.nan).numpy(), color=colour, linewidth=1.6)
    axis.axhline(0, color="0.3", linewidth=0.8, zorder=0)
    axis.grid(color="0.9", linewidth=0.6)


def bars(axis: Axes, source: Tensor, target: Tensor, truth: Tensor | None) -> None:
    """Bias of both domains (N,) from the top, and the measured one as marks."""
    middle = torch.arange(len(source) - 1, -1, -1) + _FULL / 2
    axis.axvline(0, color="0.3", linewidth=0.8, zorder=0)
    for values, colour, shift in ((source, SOURCE, 0.2), (target, TARGET, -0.2)):
        axis.barh((middle + shift).numpy(), values.nan_to_num(0.0).numpy(), height=0.36, color=colour, alpha=0.8)
    if truth is not None:
        axis.plot(truth.numpy(), middle.numpy(), "D", color="black", markersize=4, zorder=3)
    axis.grid(axis="x", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)


def name_rows(axis: Axes, names: Sequence[str], known: Sequence[bool]) -> None:
    """Names of ridges from the top, below that of the anchor; in grey what was not estimated in both domains."""
    heights = [len(names) - row for row in range(len(names) + 1)]
    labels = ["anchor", *map(_short, names)]
    axis.set_yticks([at + _FULL / 3 for at in heights], labels, fontsize=TEXT, parse_math=False)
    axis.set_ylim(-0.2, len(names) + 1)
    for label, is_known in zip(axis.get_yticklabels()[1:], known, strict=True):
        _mark(label, is_known)


def legend(figure: Figure, bands: bool, truth: bool) -> None:
    """What colours and marks mean, below. bands: anchors have one. truth: measured bias is marked."""
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
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _mark(label: Text, known: bool) -> None:
    if not known:
        label.set(color="0.6", fontstyle="italic")


def _write_values(axis: Axes, values: Tensor, image: ScalarMappable) -> None:
    for row, column in values.isfinite().nonzero().tolist():
        value = float(values[row, column])
        red, green, blue, _ = image.to_rgba(value)
        ink = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
        axis.text(column, row, f"{value:.1f}", ha="center", va="center", color=ink, fontsize=TEXT)
