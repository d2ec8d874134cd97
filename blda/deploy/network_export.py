"""Export of a trained network to a file that runs without this package, checked against the network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import torch
from timm.layers import Conv2dSame, ScaledStdConv2dSame, StdConv2dSame
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from blda import atomic
from blda.deploy.export_formats import AXES, ExportFormat, ExportRefused, Model
from blda.deploy.exportable_network import ExportableNetwork, Size, TrainedNetwork
from blda.engine.inference import Predictor
from blda.models.hrda import HRDA

LIMIT = 1e-3
"""Largest difference from the network at which a file is written."""

PADS_BY_SIZE = (Conv2dSame, StdConv2dSame, ScaledStdConv2dSame)
"""Layers of timm whose padding is computed from the size of their input."""


@dataclass(frozen=True)
class ExportCheck:
    """Comparison of an exported file with the network.

    differences: shape of the compared images, such as "1x3x512x1024" -> largest absolute difference of logits or
    scores. bytes: size of the file.
    """

    differences: Mapping[str, float]
    bytes: int

    @property
    def largest(self) -> float:
        """Largest difference over all images; NaN if any is."""
        return torch.tensor(list(self.differences.values()), dtype=torch.float64).max().item()

    @property
    def passed(self) -> bool:
        """True if the file was written, because the largest difference is within LIMIT."""
        return self.largest <= LIMIT


def export(trained: TrainedNetwork, to: ExportFormat, size: Size, output: Path, dynamic: bool = False) -> ExportCheck:
    """Write a network to a file after a check that the file computes what the network does.

    trained: network, classes and calibration. to: format of the file. size: (height, width) of the images; with
    `dynamic`, of the example that is traced. output: the file, which is written whole, and only if the check passes.
    dynamic: batch, height and width stay free; otherwise the batch is one image.

    Returns the check. Raises ValueError in one line for a network, size or format that cannot be exported.
    """
    to.require()
    if min(size) < 1:
        raise ValueError(f"size is {list(size)}; give a height and a width of at least 1")
    if dynamic:
        _require_free_size(trained.network)
    exportable = ExportableNetwork(trained.network, trained.calibration)
    with _explained(trained, size, dynamic):
        program = traced(exportable, size, dynamic)
        content = to.content(program, trained.output, trained.metadata(size, smallest(program) if dynamic else None))
    calibration = None if trained.calibration is None else trained.calibration.to("cpu")
    predict = Predictor(exportable.network, calibration=calibration)
    check = ExportCheck(_differences(to.model(content), predict, size, dynamic), len(content))
    if check.passed:
        atomic.write(output, lambda file: file.write(content))
    return check


def _require_free_size(network: nn.Module) -> None:
    """Raise ValueError if the graph of a network depends on the image size in a way that no format can leave free."""
    reason = ""
    if isinstance(network, HRDA):
        reason = "HRDA places its windows"
    elif any(isinstance(module, PADS_BY_SIZE) for module in network.modules()):
        # Tracing does not end: each layer's size would be an expression of the paddings of all layers before.
        reason = "an encoder with TensorFlow's padding (timm's tf_*) pads"
    if reason:
        raise ValueError(f"{reason} for one image size; leave --dynamic out, and export a file for each size")


def traced(network: ExportableNetwork, size: Size, dynamic: bool) -> ExportedProgram:
    """Trace a network on an image of a size; dynamic: with free batch, height and width."""
    # An axis of 1 would count as one that is always 1.
    image = torch.zeros(2 if dynamic else 1, 3, *size)
    free = {axis: Dim.DYNAMIC for axis in AXES} if dynamic else None
    return torch.export.export(network, (image,), dynamic_shapes=free and {"image": free}, strict=False)


def smallest(program: ExportedProgram) -> Size:
    """Return the smallest (height, width) that a program with free axes was traced for."""
    name = program.graph_signature.user_inputs[0]
    image = next(node for node in program.graph.nodes if node.name == name).meta["val"]
    height, width = (int(program.range_constraints[side.node.expr].lower) for side in image.shape[2:])
    return height, width


def _differences(model: Model, predict: Predictor, size: Size, dynamic: bool) -> dict[str, float]:
    """Compare a model with the network on one image, and if it is dynamic on two images of another size."""
    # The other size has other remainders by every power of two, on which a network's graph may depend.
    images = [example(1, size), *([example(2, (size[0] + 19, size[1] + 45))] if dynamic else [])]
    return {"x".join(map(str, image.shape)): _difference(model, predict, image, dynamic) for image in images}


@torch.no_grad()
def _difference(model: Model, predict: Predictor, image: Tensor, dynamic: bool) -> float:
    """Return the largest difference of two models on images; infinite for outputs of different shapes."""
    expected = predict(image)
    try:
        found = model(image)
    except Exception as error:  # of the runtime that was asked
        raise ValueError(
            f"the exported network fails on images of {tuple(image.shape)} ({_brief(error)}); {_fix(dynamic)}"
        ) from error
    return (found - expected).abs().max().item() if found.shape == expected.shape else math.inf


def example(batch: int, size: Size) -> Tensor:
    """Draw images (batch, 3, *size) in [0, 1] with coarse areas and fine noise, the same ones every time."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 4, 8, generator=generator)
    areas = torch.nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=False)
    return 0.7 * areas + 0.3 * torch.rand(batch, 3, *size, generator=generator)


@contextmanager
def _explained(trained: TrainedNetwork, size: Size, dynamic: bool) -> Iterator[None]:
    """Turn what torch's exporters raise, of many types and pages, into one line; their warnings are for developers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except ExportRefused:
            raise
        except Exception as error:
            names = " and ".join(type(getattr(trained.network, part)).__name__ for part in ("encoder", "head"))
            raise ValueError(
                f"the network of {names} cannot be exported at {size[0]} x {size[1]} ({_brief(error)}); {_fix(dynamic)}"
            ) from error


def _fix(dynamic: bool) -> str:
    return "leave --dynamic out or give a larger --size" if dynamic else "give another --size or --format"


def _brief(error: Exception) -> str:
    """Return the type of an error and the first line of its message, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {shorten(lines[0], 200)}" if lines else type(error).__name__
