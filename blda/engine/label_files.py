"""Label maps as files: indexed pictures, and the lists of classes by which annotation tools read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from blda import atomic
from blda.engine.label_colors import colours, palette

LABEL_MAP, CLASSES = "labelmap.txt", "classes.json"


def write_labels(path: Path, labels: np.ndarray, class_names: Sequence[str]) -> None:
    """Write class indices (H, W) uint8 as an indexed PNG in the classes' colours; the file appears whole."""
    picture = Image.fromarray(labels)
    picture.putpalette(palette(class_names).flatten().tolist())
    atomic.write(path, lambda file: picture.save(file, format="png"))


def write_class_lists(folder: Path, class_names: Sequence[str]) -> None:
    """Write the classes with their colours beside label maps.

    labelmap.txt is CVAT's list of a segmentation mask archive, `name:r,g,b::` a line. classes.json has index, name and
    colour (#rrggbb) of each class, for Label Studio and scripts.
    """
    table = colours(tuple(class_names))
    lines = ["# label:color_rgb:parts:actions"]
    lines += [] if "background" in class_names else ["background:0,0,0::"]
    lines += [
        f"{name.replace(':', ' ')}:{red},{green},{blue}::"
        for name, (red, green, blue) in zip(class_names, table, strict=True)
    ]
    atomic.write(folder / LABEL_MAP, "\n".join(lines) + "\n")
    classes = [
        {"id": index, "name": name, "color": "#{:02x}{:02x}{:02x}".format(*colour)}
        for index, (name, colour) in enumerate(zip(class_names, table, strict=True))
    ]
    atomic.write(folder / CLASSES, json.dumps(classes, indent=1, ensure_ascii=False))
