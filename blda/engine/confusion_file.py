"""Confusion matrix of an evaluation as a file: a picture, a table or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from torch import Tensor

from blda import atomic
from blda.engine import score_figures

SUFFIXES = (".png", ".csv", ".json")
CORNER = "truth / prediction"


def require(path: Path) -> None:
    """Raise ValueError for a file name whose suffix is none of SUFFIXES."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"cannot write {path}: the confusion matrix goes to a file that ends in {', '.join(SUFFIXES)}")


def write(path: Path, counts: Tensor, classes: Sequence[str]) -> None:
    """Write a confusion matrix; the file appears whole.

    counts: pixels (C, C), rows = truth, columns = prediction. A .png shows each row as shares of the true class; .csv
    and .json hold the counts with the class names.
    """
    require(path)
    whole = counts.round().long()
    if path.suffix.lower() == ".png":
        picture = Image.fromarray(score_figures.confusion(counts, classes).permute(1, 2, 0).numpy())
        atomic.write(path, lambda file: picture.save(file, format="png"))
    elif path.suffix.lower() == ".json":
        matrix = {"classes": list(classes), "rows": "truth", "columns": "prediction", "pixels": whole.tolist()}
        atomic.write(path, json.dumps(matrix, ensure_ascii=False))
    else:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow([CORNER, *classes])
        table.writerows([name, *row] for name, row in zip(classes, whole.tolist(), strict=True))
        atomic.write(path, text.getvalue())
