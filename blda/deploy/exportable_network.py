"""The module that is exported, and what a consumer must know about its input and output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from importlib import metadata

import torch
from torch import Tensor, nn

from blda.calibration.calibration_file import Calibration
from blda.deploy.exportable_calibration import ExportableCalibration
from blda.models.classifier import Classifier
from blda.models.segmenter import Segmenter

INPUT = "image"

Size = tuple[int, int]


class ExportableNetwork(nn.Module):
    """A network with its calibration: images (B, 3, H, W) float32 RGB in [0, 1] -> logits or calibrated scores.

    It normalises the image itself, as `Segmenter` does, and is a copy on the CPU in evaluation mode.
    """

    def __init__(self, network: Segmenter, calibration: Calibration | None) -> None:
        super().__init__()
        self.network = deepcopy(network).cpu().requires_grad_(False)
        self.calibration = None if calibration is None else ExportableCalibration(calibration)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        logits = self.network(image).float()
        return logits if self.calibration is None else self.calibration(logits)


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network to export.

    network: the network. classes: names of its C classes, in the order of the logits. calibration: `Calibration` that
    goes into the graph, None for logits. details: further texts for the exported file, such as the protocol.
    """

    network: Segmenter
    classes: tuple[str, ...]
    calibration: Calibration | None = None
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def output(self) -> str:
        """Name of the output."""
        return "logits" if self.calibration is None else "scores"

    def metadata(self, size: Size, smallest: Size | None) -> dict[str, str]:
        """Describe input, output and classes as texts by name, JSON where they are lists; stored in exported files.

        size: (height, width) of the images, or of the example if they are free. smallest: least height and width of
        free ones, None for images of one size.
        """
        classifies = isinstance(self.network, Classifier)
        shape = "(batch, class)" if classifies else "(batch, class, height, width)"
        kind = "logits" if self.calibration is None else f"scores calibrated with tau {self.calibration.tau:g}"
        normalisation = {name: getattr(self.network, name).flatten().tolist() for name in ("mean", "std")}
        return {
            **self.details,
            "task": "classification" if classifies else "semantic segmentation",
            "classes": json.dumps(self.classes, ensure_ascii=False),
            "input": f"{INPUT}: float32 (batch, 3, height, width), RGB from 0 to 1, not normalised",
            "output": f"{self.output}: float32 {shape}, {kind}; the largest is the prediction",
            "size": json.dumps(size),
            "dynamic": json.dumps(smallest is not None),
            **({} if smallest is None else {"smallest_size": json.dumps(smallest)}),
            "normalisation": json.dumps({"where": "inside the graph", **normalisation}),
            "blda_version": version(),
            "torch_version": torch.__version__,
        }


def version() -> str:
    """Return the version of this package, 'unknown' in a checkout that is not installed."""
    try:
        return metadata.version("blda-video")
    except metadata.PackageNotFoundError:
        return "unknown"
