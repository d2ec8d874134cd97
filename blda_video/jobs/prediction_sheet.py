"""A sheet of pictures: what checkpoints predict for frames of an evaluation, beside image and truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from blda.build.checkpoint_search import checkpoint_of
from blda.calibration.calibration_file import Calibration
from blda.data.sample import IGNORE
from blda.engine.label_colors import to_rgb
from blda.engine.label_pictures import seen, sheet
from blda_video.jobs.restored_run import restored


def draw(checkpoints: Sequence[Path], frames: int, calibration: Path | None = None) -> Tensor:
    """Draw the sheet (3, height, width) uint8: titled columns, and a legend of the classes that it shows."""
    if frames < 1:
        raise ValueError(f"--frames is {frames}; it must be at least 1")
    paths = [checkpoint_of(path) for path in checkpoints]
    runs = [restored(path, []) for path in paths]
    first = runs[0][0]
    names = tuple(dict.fromkeys(name for run, _ in runs for name in run.class_names))
    columns = [(run, run.evaluation.predictor(student)) for run, student in runs]
    titles = ["image", "truth", *titles_of(paths)]
    if calibration:
        last, student = runs[-1]
        balance = Calibration.load(calibration, last.class_names).to(last.accelerator.device)
        columns.append((last, last.evaluation.predictor(student, balance)))
        titles.append(f"{titles[-1]}, calibrated")
    dataset = first.data.evaluation()
    rows, maps = [], []
    for index in torch.linspace(0, len(dataset) - 1, frames).long().tolist():
        sample = dataset[index].to(first.accelerator.device)
        if sample.label.ndim == 1:
            raise ValueError(f"{checkpoints[0]} classifies whole images, so there is no map to draw; use blda evaluate")
        size = sample.image.shape[-2:]
        truth = F.interpolate(sample.label[None].double(), size, mode="nearest")[0, 0].long()
        labels = [_among(truth, first.class_names, names)]
        labels += [_among(predict(sample.image)[0].argmax(0), run.class_names, names) for run, predict in columns]
        maps += [each.numpy() for each in labels]
        rows.append([_pixels(panel, names) for panel in (sample.image[0].cpu(), *labels)])
    return torch.from_numpy(sheet(rows, titles, names, seen(*maps, num_classes=len(names)))).permute(2, 0, 1)


def titles_of(checkpoints: Sequence[Path]) -> list[str]:
    """Name checkpoints by method and step, `blda step 700`, and by as many folders above as tell them apart."""
    steps = [f"step {path.stem.removeprefix('step_').lstrip('0') or '0'}" for path in checkpoints]
    folders = [path.resolve().parent.parts for path in checkpoints]
    titles: list[str] = []
    for depth in range(1, max(map(len, folders)) + 1):
        titles = [f"{'/'.join(parts[-depth:])} {step}" for parts, step in zip(folders, steps, strict=True)]
        if len(set(titles)) == len({path.resolve() for path in checkpoints}):
            break
    return titles


def _among(labels: Tensor, own: Sequence[str], names: Sequence[str]) -> Tensor:
    """Replace indices into the classes `own` by those into `names`; IGNORE stays. Returns int64 on the CPU."""
    table = torch.full((IGNORE + 1,), IGNORE)
    table[: len(own)] = torch.tensor([names.index(name) for name in own])
    return table[labels.cpu()]


def _pixels(panel: Tensor, names: Sequence[str]) -> np.ndarray:
    return to_rgb(panel, names).permute(1, 2, 0).contiguous().numpy()
