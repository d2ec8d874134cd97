"""Label maps as pictures that say what they show: indexed, over their image, with a legend, in titled columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from blda.engine.label_colors import Colour, class_colors

MOST_LISTED = 40
"""Largest number of classes that a legend of fixed height lists in full."""
NARROW = 160
"""Width in pixels below which the columns of a sheet are enlarged."""
_PAPER, _INK, _FRAME = (255, 255, 255), (0, 0, 0), (128, 128, 128)
_CUT_ROWS = 4  # rows of a legend of fixed height for more classes


def indexed(labels: np.ndarray, colors: np.ndarray) -> Image.Image:
    """Make an indexed picture of class indices (H, W) uint8, in the classes' colours (C, 3) uint8."""
    picture = Image.fromarray(labels)
    picture.putpalette(_table(colors).flatten().tolist())
    return picture


def blended(image: np.ndarray, labels: np.ndarray, colors: np.ndarray, strength: float = 0.5) -> np.ndarray:
    """Blend the colours (C, 3) of labels (H, W) over an image (H, W, 3) uint8; `strength` is the colours' share."""
    if not 0 <= strength <= 1:
        raise ValueError(f"the strength of an overlay is {strength:g}; give 0 (image alone) to 1 (colours alone)")
    painted = np.take(_table(colors), labels, axis=0)
    return cv2.addWeighted(np.ascontiguousarray(image), 1 - strength, painted, strength, 0)


def legend(
    classes: Sequence[str],
    colors: np.ndarray,
    width: int,
    shown: Collection[int] | None = None,
    rows: int | None = None,
) -> np.ndarray:
    """Draw a legend (h, width, 3) uint8: a field of colour and the name for each listed class, in rows.

    shown: indices of the listed classes in their order, None for all. rows: number of rows, which fixes the height, and
    what does not fit is left out; None for as many as needed.
    """
    listed = range(len(classes)) if shown is None else shown
    entries = tuple((classes[index], tuple(colors[index].tolist())) for index in listed)
    return _strip(entries, width, rows)


def fixed_legend(classes: Sequence[str], colors: np.ndarray, labels: np.ndarray, width: int) -> np.ndarray:
    """Draw a legend of the same height for all frames of a video.

    It lists all classes, or, of more than MOST_LISTED, those with the most pixels of `labels` (H, W) that fit.
    """
    if len(classes) <= MOST_LISTED:
        return legend(classes, colors, width)
    counts = np.bincount(labels.ravel(), minlength=len(classes))[: len(classes)]
    largest = [index for index in np.argsort(-counts, kind="stable").tolist() if counts[index]]
    return legend(classes, colors, width, largest, _CUT_ROWS)


def seen(*labels: np.ndarray, num_classes: int) -> list[int]:
    """Return the sorted class indices that label maps show."""
    found = np.unique(np.concatenate([np.unique(each) for each in labels]))
    return [index for index in found.tolist() if index < num_classes]


def sheet(
    rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], classes: Sequence[str], shown: Collection[int]
) -> np.ndarray:
    """Arrange panels (H, W, 3) uint8 in titled columns, with a legend below.

    Panels of several sizes are scaled to one width, and narrow ones are enlarged, so that their titles are readable.
    shown: indices of the classes in the legend.
    """
    width = rows[0][0].shape[1]
    width *= max(1, -(-NARROW // width))
    lines = [np.concatenate([_scaled(panel, width, row[0].shape) for panel in row], 1) for row in rows]
    head, foot = _titles(titles, width), legend(classes, class_colors(classes), width * len(titles), sorted(shown))
    return np.concatenate([head, *lines, foot])


def text_size(width: int) -> int:
    """Return the height of text, in pixels, that is readable in a picture of a width."""
    return min(max(width // 60, 11), 28)


@lru_cache(maxsize=64)
def _strip(entries: tuple[tuple[str, Colour], ...], width: int, rows: int | None) -> np.ndarray:
    """Draw (name, colour) entries one after the other, in lines of a width."""
    size = text_size(width)
    font, line, margin = _font(size), round(1.4 * size), size // 2
    places, x, row = [], margin, 0
    for name, _ in entries:
        length = line + font.getlength(name)
        if x + length > width and x > margin:
            x, row = margin, row + 1
        places.append((round(x), row))
        x += length + size
    rows = (row + 1 if places else 0) if rows is None else rows
    strip = Image.new("RGB", (width, rows * line + (margin if rows else 0)), _PAPER)
    draw = ImageDraw.Draw(strip)
    for (name, colour), (x, row) in zip(entries, places, strict=True):
        y = size // 4 + row * line
        if row < rows:
            draw.rectangle((x, y + size // 8, x + size, y + size), fill=colour, outline=_FRAME)
            draw.text((x + line, y), name, fill=_INK, font=font)
    return np.asarray(strip)


def _titles(titles: Sequence[str], width: int) -> np.ndarray:
    """Draw one centred title above each column of a width."""
    size = text_size(width * len(titles))
    font = _font(size)
    strip = Image.new("RGB", (width * len(titles), round(1.6 * size)), _PAPER)
    draw = ImageDraw.Draw(strip)
    for column, title in enumerate(titles):
        text = title
        while font.getlength(text) > width and len(text) > 1:
            text = f"{text.rstrip('…')[:-1]}…"
        draw.text((column * width + (width - font.getlength(text)) / 2, size // 4), text, fill=_INK, font=font)
    return np.asarray(strip)


def _scaled(panel: np.ndarray, width: int, like: tuple[int, ...]) -> np.ndarray:
    """Scale a panel to a width, with the ratio of the row's first panel."""
    size = (width, max(1, round(like[0] * width / like[1])))
    if panel.shape[1::-1] == size:
        return panel
    return cv2.resize(panel, size, interpolation=cv2.INTER_NEAREST)


def _table(colors: np.ndarray) -> np.ndarray:
    """Return the colours of all values of a label map (256, 3) uint8; values without a class are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
    return table


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that Pillow brings along."""
    return ImageFont.load_default(size)
