"""Label maps as pictures: indexed in the classes' colours, or over their image, with a legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def indexed(labels: np.ndarray, colors: np.ndarray) -> Image.Image:
    """Make an indexed picture of class indices (H, W) uint8, in the classes' colours (C, 3) uint8."""
    picture = Image.fromarray(labels)
    picture.putpalette(_table(colors).flatten().tolist())
    return picture


def blended(image: np.ndarray, labels: np.ndarray, colors: np.ndarray, strength: float = 0.5) -> np.ndarray:
    """Blend the colours (C, 3) of labels (H, W) over an image (H, W, 3) uint8; `strength` is the colours' share."""
    if not 0 <= strength <= 1:
        raise ValueError(
            f"the strength of an overlay is {strength:g}; give 0, the image alone, to 1, the colours alone"
        )
    return np.rint((1 - strength) * image + strength * _table(colors)[labels]).astype(np.uint8)


def legend(classes: Sequence[str], colors: np.ndarray, width: int, height: int) -> np.ndarray:
    """Draw the names of classes beside their colours (C, 3), in rows of `width`: (rows, width, 3) uint8.

    height: of the image that the legend explains, which sets the size of the text.
    """
    size = max(10, round(height / 40))
    font, gap = ImageFont.load_default(size), size // 2
    columns = max(
        1, min(len(classes), width // (size + 3 * gap + max(round(font.getlength(name)) for name in classes)))
    )
    column, line = width // columns, size + gap
    strip = Image.new("RGB", (width, gap + line * -(-len(classes) // columns)), "white")
    draw = ImageDraw.Draw(strip)
    for i, (name, color) in enumerate(zip(classes, colors.tolist(), strict=True)):
        left, top = gap + column * (i % columns), gap + line * (i // columns)
        draw.rectangle((left, top, left + size - 1, top + size - 1), tuple(color), "black")
        draw.text((left + size + gap, top + size / 2), name, "black", font, anchor="lm")
    return np.array(strip)


def _table(colors: np.ndarray) -> np.ndarray:
    """Return the colours of all values of a label map (256, 3) uint8; values without a class are black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
    return table
