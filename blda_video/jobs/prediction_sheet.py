"""A sheet of pictures: what checkpoints predict for frames of an evaluation, beside image and truth."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from blda.calibration.calibration_file import Calibration
from blda.engine import label_colors
from blda_video.jobs.restored_run import restored


def draw(checkpoints: list[Path], frames: int, calibration: Path | None = None) -> Tensor:
    """Draw the sheet (3, height, width) uint8."""
    runs = [restored(path, []) for path in checkpoints]
    first = runs[0][0]
    predictors = [run.evaluation.predictor(student) for run, student in runs]
    if calibration:
        last, student = runs[-1]
        balance = Calibration.load(calibration, last.class_names).to(last.accelerator.device)
        predictors.append(last.evaluation.predictor(student, balance))
    dataset = first.data.evaluation()
    classes = len(first.class_names)
    rows = []
    for index in torch.linspace(0, len(dataset) - 1, frames).long().tolist():
        sample = dataset[index].to(first.accelerator.device)
        if sample.label.ndim == 1:
            raise ValueError(f"{checkpoints[0]} classifies whole images, so there is no map to draw; use blda evaluate")
        size = sample.image.shape[-2:]
        truth = F.interpolate(sample.label[None].double(), size, mode="nearest")[0, 0].long()
        panels = [sample.image[0], truth]
        panels += [predict(sample.image)[0].argmax(0) for predict in predictors]
        rows.append(torch.cat([label_colors.to_rgb(panel.cpu(), classes) for panel in panels], 2))
    return torch.cat(rows, 1)
