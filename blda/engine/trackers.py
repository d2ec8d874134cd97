"""Trackers: what receives the numbers and pictures of a run, beside metrics.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

Tracker = Callable[[int, Mapping[str, float]], None]
"""(step, finite numbers under their names in metrics.jsonl) -> nothing; called in the main process."""
OVERVIEW = "overview"
"""Group of the numbers and pictures that TensorBoard shows first."""
_NO_SCORES = ("_classes", "std")


@runtime_checkable
class PictureTracker(Protocol):
    """Tracker that shows pictures too, and is told where a run continues and ends."""

    def __call__(self, step: int, values: Mapping[str, float]) -> None: ...

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        """Receive images (3, H, W) uint8 by name."""

    def resume(self, step: int) -> None:
        """Begin, or continue after `step`; what was logged beyond it is no longer part of the run."""

    def close(self) -> None:
        """Write everything; the run has ended."""


class TensorBoardTracker:
    """Writer of TensorBoard's files.

    Numbers have their names of metrics.jsonl. Losses and the scores of all classes together stand a second time in the
    group `overview`, which TensorBoard shows first; its page "custom scalars" shows the classes of each measure in one
    chart.

    folder: holds the files. protocol: name of the protocol of scores without a prefix.
    """

    def __init__(self, folder: Path, protocol: str = "all") -> None:
        self.folder, self.protocol = folder, protocol
        self._writer: SummaryWriter | None = None
        self._charts = False

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        writer = self._open()
        for name, value in values.items():
            writer.add_scalar(name, value, step)
            if copy := _in_overview(name):
                writer.add_scalar(copy, value, step)
        if not self._charts and any(name.startswith("target/") for name in values):
            writer.add_custom_scalars(charts(values))
            self._charts = True

    def pictures(self, step: int, pictures: Mapping[str, Tensor]) -> None:
        for name, picture in pictures.items():
            self._open().add_image(name, picture, step)

    def resume(self, step: int) -> None:
        self.close()
        self._open(purge_step=step + 1)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self, **purge: int) -> SummaryWriter:
        if self._writer is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._writer = SummaryWriter(str(self.folder), **purge)
            self._writer.add_text("target/protocol", self.protocol, purge.get("purge_step", 0))
        return self._writer


def charts(values: Mapping[str, float]) -> dict[str, dict[str, list]]:
    """Lay out TensorBoard's charts of several lines: overview -> chart -> regular expressions of names.

    values: the numbers of an evaluation, by their names in the log. Each measure that classes have is one chart.
    """
    names = [name.split("/") for name in values if name.startswith("target/")]
    of_classes = dict.fromkeys(parts[1] for parts in names if len(parts) == 3 and parts[1] != "best_on_validation")
    measures = [name for name in of_classes if f"target/{name}/mIoU" not in values]  # the others are protocols
    measures.sort(key=lambda name: (name != "iou", name == "bias"))
    means = [parts[1] for parts in names if len(parts) == 2 and _in_overview("/".join(parts))]
    first = {"scores": ["Multiline", [f"^target/{name}$" for name in means]], "losses": ["Multiline", ["^train/loss/"]]}
    return {
        OVERVIEW: first,
        "classes": {name: ["Multiline", [f"^target/{name}/[^/]+$"]] for name in measures},
    }


def _in_overview(name: str) -> str | None:
    """Return the second name of a loss or of a score of all classes, None for other numbers."""
    group, _, rest = name.partition("/")
    if group == "train" and rest.startswith("loss/"):
        return f"{OVERVIEW}/{rest}"
    if group == "target" and "/" not in rest and not rest.endswith(_NO_SCORES):
        return f"{OVERVIEW}/{rest}"
    return None
