"""Pictures of label maps that say what they show: colours over an image, a legend of classes, titles of columns."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from blda.engine.label_colors import colours, palette

MOST_LISTED = 40
"""Largest number of classes that a legend of fixed height lists in full."""
_PAPER, _INK, _FRAME = (255, 255, 255), (0, 0, 0), (128, 128, 128)
_CUT_ROWS = 4  # rows of a legend of fixed height for more classes


def overlay(image: np.ndarray, labels: np.ndarray, class_names: Sequence[str], strength: float = 0.5) -> np.ndarray:
    """Blend the classes' colours over an image (H, W, 3) uint8.

    labels: class indices (H, W); IGNORE becomes black. strength: share of the colours, from 0 to 1.
    """
    painted = np.take(palette(class_names).numpy(), labels, axis=0)
    return cv2.addWeighted(np.ascontiguousarray(image), 1 - strength, painted, strength, 0)


def with_legend(picture: np.ndarray, class_names: Sequence[str], shown: Sequence[int] | None = None) -> np.ndarray:
    """Add the legend below a picture (H, W, 3) uint8. shown: indices of the listed classes, None for all."""
    listed = range(len(class_names)) if shown is None else shown
    strip = legend(tuple(class_names), picture.shape[1], tuple(listed))
    return np.concatenate((picture, strip))


def with_fixed_legend(picture: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """Add a legend whose height is the same for all frames of a video.

    It lists all classes, or, of more than MOST_LISTED, those with the most pixels of `labels` (H, W) that fit.
    """
    names, width = tuple(class_names), picture.shape[1]
    if len(names) <= MOST_LISTED:
        return with_legend(picture, names)
    counts = np.bincount(labels.ravel(), minlength=len(names))[: len(names)]
    largest = tuple(index for index in np.argsort(-counts, kind="stable").tolist() if counts[index])
    return np.concatenate((picture, legend(names, width, largest, _CUT_ROWS)))


def seen(*labels: np.ndarray, num_classes: int) -> list[int]:
    """Return the sorted class indices that label maps show."""
    found = np.unique(np.concatenate([np.unique(each) for each in labels]))
    return [index for index in found.tolist() if index < num_classes]


@lru_cache(maxsize=64)
def legend(class_names: tuple[str, ...], width: int, shown: tuple[int, ...], rows: int | None = None) -> np.ndarray:
    """Draw a legend (h, width, 3) uint8: a field of colour and the name for each listed class, in rows.

    shown: indices of the listed classes. rows: number of rows, None for as many as needed; what does not fit is left
    out.
    """
    size = text_size(width)
    font, line = _font(size), round(1.4 * size)
    places, x, row = [], size // 2, 0
    for index in shown:
        length = line + font.getlength(class_names[index])
        if x + length > width and x > size // 2:
            x, row = size // 2, row + 1
        places.append((index, round(x), row))
        x += length + size
    rows = (row + 1 if places else 0) if rows is None else rows
    strip = Image.new("RGB", (width, rows * line + (size // 2 if rows else 0)), _PAPER)
    draw, table = ImageDraw.Draw(strip), colours(class_names)
    for index, x, row in places:
        y = size // 4 + row * line
        if row < rows:
            draw.rectangle((x, y + size // 8, x + size, y + size), fill=table[index], outline=_FRAME)
            draw.text((x + line, y), class_names[index], fill=_INK, font=font)
    return np.asarray(strip)


def text_size(width: int) -> int:
    """Return the height of the text, in pixels, that is readable in a picture of a width."""
    return min(max(width // 60, 11), 28)


def sheet(
    rows: Sequence[Sequence[np.ndarray]], titles: Sequence[str], class_names: Sequence[str], shown: Collection[int]
) -> np.ndarray:
    """Arrange panels (H, W, 3) uint8 in titled columns, with a legend below.

    Panels of several sizes are scaled to one width. Small panels are enlarged, so that their titles are readable.
    shown: indices of the classes in the legend.
    """
    width = rows[0][0].shape[1]
    width *= max(1, -(-160 // width))
    lines = [np.concatenate([_scaled(panel, width) for panel in row], 1) for row in rows]
    head = _titles(titles, width)
    return with_legend(np.concatenate([head, *lines]), class_names, sorted(shown))


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


def _scaled(panel: np.ndarray, width: int) -> np.ndarray:
    if panel.shape[1] == width:
        return panel
    size = (width, max(1, round(panel.shape[0] * width / panel.shape[1])))
    return cv2.resize(panel, size, interpolation=cv2.INTER_NEAREST)


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return the font that Pillow brings along."""
    return ImageFont.load_default(size)
