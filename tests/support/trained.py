"""Checkpoints of small networks whose predictions differ from place to place, as runs leave them."""

from __future__ import annotations

from pathlib import Path

import torch

import tiny
from blda.balance.alignment import Alignment
from blda.balance.logit_grid import BINS
from blda.calibration.calibration_file import Calibration
from blda.config import loading
from blda.engine import checkpoint

CLASSES = ("road", "sky", "car")


def checkpoint_in(folder: Path, mode: str, *overrides: str, root: Path = Path("nowhere")) -> Path:
    """Write config.yaml and step_000001.pt of a run in one of `tiny.MODES`, and return the checkpoint."""
    plain = ("evaluation.protocols=[]", f"classes=[{', '.join(CLASSES)}]", *tiny.BATCH_NORM)
    config = tiny.load(root, folder, mode, *plain, *overrides)
    loading.save(config, folder / "config.yaml")
    torch.manual_seed(0)
    student = tiny.compose(config, tiny.runtime.start("no")).networks.student(pretrained=False)
    for name, weight in student.named_parameters():
        if name.endswith("classifier.weight"):
            with torch.no_grad():
                weight.normal_()
                weight -= weight.mean(1, keepdim=True)
    path = folder / "step_000001.pt"
    checkpoint.save(path, {"student": student})
    return path


def calibration(classes: tuple[str, ...] = CLASSES, tau: float = 1.0) -> Calibration:
    """A calibration that moves the logits of each class by another constant."""
    count = len(classes)
    shift = torch.arange(count, dtype=torch.float32).view(1, count, 1).expand(count, count, BINS).contiguous()
    return Calibration(Alignment(shift, torch.ones(count, dtype=torch.bool)), tau, classes)
