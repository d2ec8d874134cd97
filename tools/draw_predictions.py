"""Draw what checkpoints predict: a row for each frame, with image, truth and the prediction of every checkpoint.

    python tools/draw_predictions.py runs/demo/*/step_*.pt --output predictions.png [--frames 4]

Frames are spread over the data set that the first checkpoint's run is evaluated on. --calibration FILE, made by
tools/calibrate.py for the last checkpoint, adds a column: what that one predicts when it is balanced.
"""

from pathlib import Path

import cv2
import torch
from torch import Tensor
from torch.nn import functional as F

from blda.calibration.calibration_file import Calibration
from blda.engine import label_colors
from command import one_line_errors, parser
from evaluate import restored


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("checkpoints", nargs="+", type=Path, help="step_*.pt in the folders of runs")
    arguments.add_argument("--output", type=Path, required=True, help="PNG file to write")
    arguments.add_argument("--frames", type=int, default=4, help="number of rows")
    arguments.add_argument("--calibration", type=Path, metavar="FILE", help="of the last checkpoint; adds a column")
    given = arguments.parse_args()
    with one_line_errors():
        if given.output.suffix.lower() != ".png":
            raise ValueError(f"cannot write {given.output}; give a file that ends in .png")
        sheet = draw(given.checkpoints, given.frames, given.calibration)
        if not cv2.imwrite(str(given.output), sheet.permute(1, 2, 0).numpy()[..., ::-1]):
            raise ValueError(f"cannot write {given.output}; check that its folder exists")


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
            raise ValueError(
                f"{checkpoints[0]} classifies whole images, so there is no map to draw; use tools/evaluate.py"
            )
        size = sample.image.shape[-2:]
        truth = F.interpolate(sample.label[None].double(), size, mode="nearest")[0, 0].long()
        panels = [sample.image[0], truth]
        panels += [predict(sample.image)[0].argmax(0) for predict in predictors]
        rows.append(torch.cat([label_colors.to_rgb(panel.cpu(), classes) for panel in panels], 2))
    return torch.cat(rows, 1)


if __name__ == "__main__":
    main()
