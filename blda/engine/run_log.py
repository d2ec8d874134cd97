"""Log of a run: metrics.jsonl, trackers such as TensorBoard, and a progress bar, from the main process only."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blda import atomic
from blda.data.sample import Sample
from blda.engine import label_pictures, score_figures
from blda.engine.label_colors import to_rgb
from blda.engine.trackers import OVERVIEW, PictureTracker, Tracker

FIRST_MEASURES = ("iou", "acc")
"""Measures of a class that stand in the first picture of bars; the bias is a fraction and has no bar."""


class RunLog:
    """Log of numbers and pictures by step.

    folder: holds metrics.jsonl. classes: names of the values per class. main: True in the main process; others write
    nothing. bar: show a progress bar. protocol: name of the protocol of scores without a prefix. trackers: receive the
    same numbers, and pictures if they take them (blda/engine/trackers.py).
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        main: bool = True,
        bar: bool = True,
        protocol: str = "all",
        trackers: Sequence[Tracker] = (),
    ) -> None:
        self.folder, self.classes, self.main, self.bar = folder, tuple(classes), main, bar and main
        self.protocol, self.trackers = protocol, list(trackers)

    def resume(self, step: int) -> None:
        """Delete what was logged after `step`, from which the run continues."""
        if not self.main:
            return
        path = self.folder / "metrics.jsonl"
        if path.exists():
            kept = [json.dumps(record) + "\n" for record in read_log(path) if record["step"] <= step]
            atomic.write(path, "".join(kept))
        for tracker in self._shown():
            tracker.resume(step)

    def numbers(self, step: int, scalars: Mapping[str, float], tensors: Mapping[str, Tensor]) -> None:
        """Log numbers of training; a tensor (C,) becomes one number per class."""
        values = dict(scalars)
        for name, tensor in tensors.items():
            if tensor.ndim:
                values.update({f"{name}/{c}": v for c, v in zip(self.classes, tensor.tolist(), strict=True)})
            else:
                values[name] = tensor.item()
        self._write(step, "train", values)

    def scores(self, step: int, scores: Mapping[str, float], confusion: Tensor | None = None) -> None:
        """Log the scores of an evaluation, with the name of their protocol, and pictures of all classes.

        confusion: counts (C, C), rows = truth, columns = prediction.
        """
        self._write(step, "target", scores, {"protocol": self.protocol})
        if self._shown():
            self._show(step, self._score_pictures(scores, confusion))

    def pictures(self, step: int, items: Mapping[str, Tensor]) -> None:
        """Log images (3, H, W), label maps (H, W) int64 in class colours, and weights (H, W) in grey."""
        if self._shown():  # a class for the whole image is no picture
            drawn = {name: to_rgb(item.cpu(), self.classes) for name, item in items.items() if item.ndim}
            self._show(step, {f"train/{name}": picture for name, picture in drawn.items()})

    def figures(self, step: int, draw: Callable[[], Mapping[str, Tensor]]) -> None:
        """Log figures as images (3, H, W) uint8; `draw` makes them and is called in the main process only."""
        if self._shown():
            self._show(step, {f"train/{name}": image for name, image in draw().items()})

    def prediction(self, step: int, sample: Sample, logits: Tensor) -> None:
        """Log the first evaluated image, its prediction and its truth side by side; whole-image labels log nothing."""
        if not self._shown() or logits.ndim == 2:
            return
        panels, titles = [sample.image[0], logits[0].argmax(0)], ["image", "prediction"]
        if sample.label is not None:
            panels.append(_nearest(sample.label[0], logits.shape[-2:]))
            titles.append("truth")
        panels = [panel.cpu() for panel in panels]
        drawn = [to_rgb(panel, self.classes).permute(1, 2, 0).numpy() for panel in panels]
        shown = label_pictures.seen(*(panel.numpy() for panel in panels[1:]), num_classes=len(self.classes))
        sheet = label_pictures.sheet([drawn], titles, self.classes, shown)
        self._show(step, {"target/image_prediction_truth": torch.from_numpy(sheet).permute(2, 0, 1)})

    def close(self) -> None:
        """Write everything to disk, and end the trackers."""
        for tracker in self._shown():
            tracker.close()

    def _shown(self) -> list[PictureTracker]:
        """Return the trackers that take pictures; none in other processes than the main one."""
        return [tracker for tracker in self.trackers if self.main and isinstance(tracker, PictureTracker)]

    def _show(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        for tracker in self._shown():
            tracker.pictures(step, pictures)

    def _score_pictures(self, scores: Mapping[str, float], confusion: Tensor | None) -> dict[str, Tensor]:
        """Draw the measures of all classes, and the confusion matrix."""
        found = score_figures.measures(scores, self.classes)
        first = {name: found.pop(name) for name in FIRST_MEASURES if name in found}
        found.pop("bias", None)
        named = {"iou" if "iou" in first else "accuracy": first, "other_measures": found}
        bars = {
            f"{OVERVIEW}/{name}_per_class": score_figures.class_bars(values, self.classes)
            for name, values in named.items()
            if values
        }
        if confusion is None:
            return bars
        return {**bars, f"{OVERVIEW}/confusion": score_figures.confusion(confusion, self.classes)}

    def _write(
        self, step: int, group: str, values: Mapping[str, float], metadata: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        if not self.main:
            return
        finite = {f"{group}/{name}": value for name, value in values.items() if math.isfinite(value)}
        for tracker in self.trackers:
            tracker(step, finite)
        self.folder.mkdir(parents=True, exist_ok=True)
        line = {f"{group}/{name}": value for name, value in atomic.finite(values).items()}
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **metadata, **line}) + "\n")


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a metrics.jsonl; leaves out what is none, such as half a line that a kill left."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            yield record


def _nearest(label: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(label[None, None].double(), size, mode="nearest")[0, 0].long()
