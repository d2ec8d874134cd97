"""The calibration of a trained network and the file that holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from blda import atomic
from blda.balance import logit_grid
from blda.balance.alignment import Alignment
from blda.calibration.scores import scores

FORMAT = "blda calibration 1"
KEYS = {"nodes", "alignment", "tau", "classes", "origin"}


@dataclass(frozen=True)
class Calibration:
    """Calibration that turns the logits of one network on one domain into balanced scores.

    alignment: alignment of that domain's cells to the source's anchors.
    tau: strength of the correction; 0 corrects nothing.
    classes: the C class names, in the order of the logits.
    origin: network, data and settings it was made from, as text.
    """

    alignment: Alignment
    tau: float
    classes: tuple[str, ...]
    origin: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.tau < math.inf:
            raise ValueError(f"tau is {self.tau}; use a finite number of at least 0, such as 1 for full alignment")
        classes = len(self.alignment.active)
        if len(self.classes) != classes or self.alignment.lookup.shape != (classes, classes, logit_grid.BINS):
            lookup = tuple(self.alignment.lookup.shape)
            raise ValueError(
                f"{len(self.classes)} class names and a lookup table {lookup} for {classes} classes; give one name a "
                f"class and a table ({classes}, {classes}, {logit_grid.BINS})"
            )

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the scores of logits (B, C, H, W) or (B, C), in the same shape; see `scores`."""
        return scores(logits, self.alignment, self.tau)

    def to(self, device: torch.device | str) -> Calibration:
        """Return a copy on `device`."""
        return replace(self, alignment=Alignment(*(tensor.to(device) for tensor in self.alignment)))

    def save(self, path: Path) -> None:
        """Write the calibration to a file, atomically, as tensors, numbers and strings."""
        state = {
            "format": FORMAT,
            "nodes": logit_grid.nodes(),
            "alignment": {"table": self.alignment.lookup.cpu(), "active": self.alignment.active.cpu()},
            "tau": float(self.tau),
            "classes": list(self.classes),
            "origin": dict(self.origin),
        }
        atomic.write_tensors(path, state)

    @classmethod
    def load(cls, path: Path, classes: Sequence[str]) -> Calibration:
        """Read the calibration of a network with these class names, on the CPU, without unpickling code.

        Raises FileNotFoundError for a missing file, and ValueError for another kind of file or other class names.
        """
        state = _read(path)
        names = tuple(state["classes"])
        if names != tuple(classes):
            differs = next(
                (f"{a!r} where the network has {b!r}" for a, b in zip(names, classes, strict=False) if a != b), ""
            )
            raise ValueError(
                f"{path} calibrates {len(names)} classes, the network has {len(classes)}{differs and f'; {differs}'}; "
                "make a calibration of this network with blda calibrate"
            )
        alignment = Alignment(state["alignment"]["table"], state["alignment"]["active"])
        return cls(alignment, state["tau"], names, state["origin"])


def _read(path: Path) -> dict:
    """Read and check the contents of a calibration file."""
    if not path.is_file():
        raise FileNotFoundError(f"no calibration file at {path}; make one with blda calibrate")
    try:
        state = atomic.read_tensors(path)
    except ValueError as error:
        raise ValueError(f"{path} is damaged or not a calibration: {error}; make it with blda calibrate") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT or not state.keys() >= KEYS:
        raise ValueError(f"{path} is not a calibration file of this version; make it with blda calibrate")
    if not torch.equal(state["nodes"], logit_grid.nodes()):
        raise ValueError(f"{path} is tabulated on another logit grid; make it again with blda calibrate")
    return state
