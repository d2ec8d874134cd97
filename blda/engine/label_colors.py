"""Colours of classes, by their names: label maps look alike whatever the list of classes."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from blda.data.label_map import CITYSCAPES19
from blda.data.sample import IGNORE

Colour = tuple[int, int, int]

CITYSCAPES = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30),
    (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60), (255, 0, 0), (0, 0, 142),
    (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip
"""The field's colours of the 19 Cityscapes classes."""
ALIASES = {
    "road": ("street", "roadway", "drivable area"),
    "sidewalk": ("pavement", "footpath", "footway"),
    "building": ("house", "buildings"),
    "light": ("traffic light", "trafficlight", "traffic lights"),
    "sign": ("traffic sign", "trafficsign", "traffic signs", "sign symbol", "signsymbol"),
    "vegetation": ("tree", "trees"),
    "terrain": ("grass",),
    "person": ("pedestrian", "people", "human"),
    "rider": ("bicyclist", "cyclist", "motorcyclist"),
    "truck": ("lorry",),
    "motorcycle": ("motorbike",),
    "bicycle": ("bike",),
}
"""Class of Cityscapes -> other names of the same thing."""
_BLACK = (0, 0, 0)
_KNOWN = dict(zip(CITYSCAPES19, CITYSCAPES, strict=True))
_KNOWN.update({other: _KNOWN[name] for name, others in ALIASES.items() for other in others})
_OTHERS = tuple(
    tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue / 24, saturation, value))
    for value, saturation, hue in product((1.0, 0.75, 0.5, 0.3), (1.0, 0.6, 0.3), range(24))
)


def palette(class_names: Sequence[str]) -> Tensor:
    """Build the colour table (256, 3) uint8 of label maps; indices without a class, such as IGNORE, are black."""
    table = torch.zeros(IGNORE + 1, 3, dtype=torch.uint8)
    table[: len(class_names)] = torch.tensor(colours(tuple(class_names)), dtype=torch.uint8).view(-1, 3)
    return table


def class_colors(class_names: Sequence[str]) -> np.ndarray:
    """Return the colour of each class, (C, 3) uint8."""
    return palette(class_names)[: len(class_names)].numpy()


@cache
def colours(class_names: tuple[str, ...]) -> tuple[Colour, ...]:
    """Choose a colour for each class, all different.

    The classes of Cityscapes, by any of their names, have the field's colours; each other class, in order, has the
    colour that is farthest from those taken.
    """
    chosen: dict[int, Colour] = {}
    plain = [_plain(name) for name in class_names]
    for index in sorted(range(len(plain)), key=lambda i: plain[i] not in CITYSCAPES19):  # its own names come first
        colour = _KNOWN.get(plain[index])
        if colour is not None and colour not in chosen.values():
            chosen[index] = colour
    apart = {colour: min(_distance(colour, other) for other in (_BLACK, *chosen.values())) for colour in _OTHERS}
    for index in range(len(class_names)):
        if index not in chosen:
            chosen[index] = max(apart, key=apart.__getitem__)
            apart = {colour: min(gap, _distance(colour, chosen[index])) for colour, gap in apart.items()}
    return tuple(chosen[index] for index in range(len(class_names)))


def to_rgb(item: Tensor, class_names: Sequence[str]) -> Tensor:
    """Convert to an RGB image (3, H, W) uint8.

    item: image (3, H, W) float, label map (H, W) int64 or weight map (H, W) float.
    """
    if item.ndim == 3:
        return (item.clamp(0, 1) * 255).round().byte()
    if item.dtype == torch.int64:
        return palette(class_names)[item].permute(2, 0, 1)
    return (item.clamp(0, 1) * 255).round().byte().expand(3, -1, -1)


def _plain(name: str) -> str:
    """Reduce a class name to lower case words with one space between them."""
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def _distance(one: Colour, other: Iterable[int]) -> float:
    """Squared distance of two colours, weighted by how much the eye sees of red, green and blue."""
    return sum(weight * (a - b) ** 2 for weight, a, b in zip((2, 4, 3), one, other, strict=True))
