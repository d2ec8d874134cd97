"""Log of a run: TensorBoard, metrics.jsonl and a progress bar, from the main process only."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from blda import atomic
from blda.data.sample import Sample
from blda.engine import label_colors

Tracker = Callable[[int, Mapping[str, float]], None]
"""(step, finite numbers under their names in metrics.jsonl) -> nothing; called in the main process."""


class RunLog:
    """Log of numbers and pictures by step.

    folder: holds metrics.jsonl and the TensorBoard files. classes: names of the values per class. main: True in the
    main process; others write nothing. bar: show a progress bar. protocol: name of the protocol of scores without a
    prefix. trackers: receive the same numbers.
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
        self._writer: SummaryWriter | None = None

    def resume(self, step: int) -> None:
        """Delete what was logged after `step`, from which the run continues."""
        if not self.main:
            return
        path = self.folder / "metrics.jsonl"
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            atomic.write(path, "".join(line for line in lines if _step(line) <= step))
        self._writer = SummaryWriter(str(self.folder), purge_step=step + 1)

    def numbers(self, step: int, scalars: Mapping[str, float], tensors: Mapping[str, Tensor]) -> None:
        """Log numbers of training; a tensor (C,) becomes one number per class."""
        values = dict(scalars)
        for name, tensor in tensors.items():
            if tensor.ndim:
                values.update({f"{name}/{c}": v for c, v in zip(self.classes, tensor.tolist(), strict=True)})
            else:
                values[name] = tensor.item()
        self._write(step, "train", values)

    def scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Log the scores of an evaluation, with the name of their protocol."""
        self._write(step, "target", scores, {"protocol": self.protocol})
        if self.main:
            self._tensorboard().add_text("target/protocol", self.protocol, step)

    def pictures(self, step: int, items: Mapping[str, Tensor]) -> None:
        """Log images (3, H, W), label maps (H, W) int64 in class colours, and weights (H, W) in grey."""
        for name, item in items.items():
            if self.main and item.ndim:  # a class for the whole image is no picture
                self._tensorboard().add_image(f"train/{name}", label_colors.to_rgb(item.cpu(), len(self.classes)), step)

    def figures(self, step: int, draw: Callable[[], Mapping[str, Tensor]]) -> None:
        """Log figures as images (3, H, W) uint8; `draw` makes them and is called in the main process only."""
        for name, image in (draw() if self.main else {}).items():
            self._tensorboard().add_image(f"train/{name}", image, step)

    def prediction(self, step: int, sample: Sample, logits: Tensor) -> None:
        """Log the first evaluated image, its truth and its prediction side by side; whole-image labels log nothing."""
        if not self.main or logits.ndim == 2:
            return
        panels = [sample.image[0], logits[0].argmax(0)]
        if sample.label is not None:
            panels.append(_nearest(sample.label[0], logits.shape[-2:]))
        drawn = [label_colors.to_rgb(panel.cpu(), len(self.classes)) for panel in panels]
        self._tensorboard().add_image("target/image_prediction_truth", torch.cat(drawn, 2), step)

    def close(self) -> None:
        """Write everything to disk."""
        if self._writer is not None:
            self._writer.close()

    def _write(
        self, step: int, group: str, values: Mapping[str, float], metadata: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        if not self.main:
            return
        writer = self._tensorboard()
        finite = {f"{group}/{name}": value for name, value in values.items() if math.isfinite(value)}
        for name, value in finite.items():
            writer.add_scalar(name, value, step)
        for tracker in self.trackers:
            tracker(step, finite)
        line = {f"{group}/{name}": value for name, value in atomic.finite(values).items()}
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **metadata, **line}) + "\n")

    def _tensorboard(self) -> SummaryWriter:
        if self._writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._writer = SummaryWriter(str(self.folder))
        return self._writer


def _step(line: str) -> int:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return 1 << 62  # half a line, left by a kill: later than any step


def _nearest(label: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(label[None, None].double(), size, mode="nearest")[0, 0].long()
