"""Lists of classes beside label maps, by which annotation tools and scripts read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from blda import atomic

LABEL_MAP, CLASSES = "labelmap.txt", "classes.json"


def write_class_lists(folder: Path, classes: Sequence[str], colors: np.ndarray) -> None:
    """Write the classes with their colours (C, 3) uint8 into a folder of label maps.

    labelmap.txt is the list in CVAT's segmentation masks, `name:r,g,b::` a line. classes.json has index, name and
    colour (#rrggbb) of each class.
    """
    table = dict(zip(classes, colors.tolist(), strict=True))
    named = {"background": (0, 0, 0), **{name.replace(":", " "): colour for name, colour in table.items()}}
    lines = [f"{name}:{','.join(map(str, colour))}::" for name, colour in named.items()]
    atomic.write(folder / LABEL_MAP, "\n".join(["# label:color_rgb:parts:actions", *lines, ""]))
    entries = [
        {"id": index, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*colour)}
        for index, (name, colour) in enumerate(table.items())
    ]
    atomic.write(folder / CLASSES, json.dumps(entries, indent=1, ensure_ascii=False))
