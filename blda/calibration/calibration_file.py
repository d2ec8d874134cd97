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
    """What turns the logits of one network on one domain into balanced scores.

    alignment: of that domain to the source's anchors. tau: strength of the correction, 0 for none. classes: the C
    names, in the order of the logits. origin: what it was made from, in words, for those who find the file.
    """

    alignment: Alignment
    tau: float
    classes: tuple[str, ...]
    origin: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.tau < math.inf:
            raise ValueError(f"tau is {self.tau}; it must be at least 0, and 1 aligns fully")
        classes = len(self.alignment.active)
        if len(self.classes) != classes or self.alignment.lookup.shape != (classes, classes, logit_grid.BINS):
            lookup = tuple(self.alignment.lookup.shape)
            raise ValueError(f"{len(self.classes)} class names and a table {lookup} for {classes} classes; name each")

    def __call__(self, logits: Tensor) -> Tensor:
        """Scores of the shape of the logits (B, C, H, W) or (B, C); see `scores`."""
        return scores(logits, self.alignment, self.tau)

    def to(self, device: torch.device | str) -> Calibration:
        """The same on `device`."""
        return replace(self, alignment=Alignment(*(part.to(device) for part in self.alignment)))

    def save(self, path: Path) -> None:
        """Write it, whole or not at all: tensors, numbers and texts."""
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
        """Read it for a network of these classes, on the CPU; no code is unpickled.

        FileNotFoundError without the file; ValueError for any other file, and for other class names.
        """
        state = _read(path)
        names = tuple(state["classes"])
        if names != tuple(classes):
            differs = next(
                (f"{a!r} where the network has {b!r}" for a, b in zip(names, classes, strict=False) if a != b), ""
            )
            raise ValueError(
                f"{path} calibrates {len(names)} classes, the network has {len(classes)}{differs and f'; {differs}'}; "
                "make one for this network with tools/calibrate.py"
            )
        alignment = Alignment(state["alignment"]["table"], state["alignment"]["active"])
        return cls(alignment, state["tau"], names, state["origin"])


def _read(path: Path) -> dict:
    if not path.is_file():
        raise FileNotFoundError(f"no calibration at {path}; make one with tools/calibrate.py")
    try:
        state = atomic.read_tensors(path)
    except ValueError as error:
        raise ValueError(f"{path} is damaged or no calibration: {error}; make one with tools/calibrate.py") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT or not state.keys() >= KEYS:
        raise ValueError(f"{path} is no calibration of this version; make one with tools/calibrate.py")
    if not torch.equal(state["nodes"], logit_grid.nodes()):
        raise ValueError(f"{path} is tabulated on another axis of logits; make it again with tools/calibrate.py")
    return state
