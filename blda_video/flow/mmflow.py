"""The networks of mmflow (RAFT, PWC-Net, FlowNet2, LiteFlowNet, ...), an optional extra; without compiled operators."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from blda.models.weights.reading import check_and_load, read_weights
from blda_video.flow.correlation import Correlation
from blda_video.flow.flow_geometry import resize
from blda_video.flow.raft import padding

INSTALL = (
    "echo 'setuptools<81' > build.txt && PIP_CONSTRAINT=build.txt PIP_BUILD_CONSTRAINT=build.txt "
    "pip install mmflow==0.5.2 mmcv==1.7.2"
)


class MMFlow:
    """A network of mmflow 0.5.2 with its checkpoint, on the device of the images.

    config: a config of mmflow's wheel by its name, for example 'pwcnet_ft_4x1_300k_sintel_384x768', or the path of
        one; a config is Python code and is run. Its test pipeline says how images are normalised, padded or resized.
    checkpoint: the path of the config's weights; only tensors are read.
    MaskFlowNet needs deformable convolution and so mmcv-full, which is taken where it is installed.
    Raises ValueError without the extra or for weights of another network, FileNotFoundError for missing files.
    """

    def __init__(self, config: str | Path, checkpoint: str | Path) -> None:
        self.config, self.checkpoint = config, checkpoint
        mmcv, models = imported()
        path = located(config)
        settings = mmcv.Config.fromfile(str(path))
        self.steps = Preparation.of(settings, path)
        settings.model.train_cfg = None
        network = mmcv.cnn.utils.revert_sync_batchnorm(models.build_flow_estimator(settings.model))
        self.network = network.eval().requires_grad_(False)
        check_and_load(self.network, read_weights(checkpoint), checkpoint, f"mmflow's {path.stem}")

    def __reduce__(self) -> tuple[Any, ...]:
        # mmflow's classes can be unpickled only after `imported`, so another process builds its own.
        return MMFlow, (self.config, self.checkpoint)

    @torch.no_grad()
    def __call__(self, image: Tensor, neighbour: Tensor) -> Tensor:
        """Flow (B, 2, H, W) float32 pixels, image -> neighbour; both (B, 3, H, W) in [0, 1].

        Raises ValueError when the shapes differ or the images are too small for the network.
        """
        if image.shape != neighbour.shape:
            shapes = f"{tuple(image.shape)} and {tuple(neighbour.shape)}"
            raise ValueError(f"mmflow needs two images of one shape, not {shapes}; resize the neighbour like the key")
        pair = torch.cat([self.steps.prepared(each.float()) for each in (image, neighbour)], 1)
        with torch.autocast(image.device.type, enabled=False):
            result = self.network.to(image.device)(pair, test_mode=True, img_metas=None)
        # Networks that estimate both directions at once call this one flow_fw.
        flows = np.stack([each["flow"] if "flow" in each else each["flow_fw"] for each in result])
        flow = torch.from_numpy(flows).permute(0, 3, 1, 2).float()
        return self.steps.restored(flow, tuple(image.shape[-2:])).contiguous().to(image.device)


class Preparation:
    """Image preparation of a config's test pipeline, on tensors.

    normalise: the step with mean, std (of 0 .. 255) and to_rgb. stride: number that both sides must be multiples of.
    pads: True repeats the edges up to these multiples, False resizes the images to them.
    """

    def __init__(self, normalise: dict[str, Any], stride: int, pads: bool) -> None:
        self.mean, self.std = (torch.tensor(normalise[key])[:, None, None] / 255 for key in ("mean", "std"))
        self.rgb = normalise.get("to_rgb", True)
        self.stride, self.pads = stride, pads

    @classmethod
    def of(cls, settings: Any, path: Path) -> Preparation:
        """Read the preparation from a config; ValueError naming its file when the config describes none."""
        steps = {step["type"]: step for step in next(_pipelines(settings.get("data", {}).get("test", {})), [])}
        fit = steps.get("InputPad") or steps.get("InputResize")
        if "Normalize" not in steps or fit is None:
            raise ValueError(
                f"config {path} has no data.test pipeline with Normalize and InputPad or InputResize; "
                "take one of mmflow's configs"
            )
        return cls(steps["Normalize"], 2 ** fit["exponent"], "InputPad" in steps)

    def prepared(self, image: Tensor) -> Tensor:
        """Turn an image (B, 3, H, W) RGB in [0, 1] into the network's input."""
        ordered = image if self.rgb else image.flip(1)
        ordered = (ordered - self.mean.to(image)) / self.std.to(image)
        size = tuple(image.shape[-2:])
        if self.pads:
            return functional.pad(ordered, padding(size, self.stride), "replicate")
        fitted = tuple(-(-side // self.stride) * self.stride for side in size)
        return functional.interpolate(ordered, size=fitted, mode="bilinear", align_corners=False)

    def restored(self, flow: Tensor, size: tuple[int, int]) -> Tensor:
        """Resize the network's flow to the size (H, W) of the images."""
        if not self.pads:
            return resize(flow, size)
        left, _, top, _ = padding(size, self.stride)
        return flow[..., top : top + size[0], left : left + size[1]]


def _pipelines(part: Any) -> Iterator[list[dict[str, Any]]]:
    """All pipelines in a section of a config; data sets may be nested in others."""
    if isinstance(part, dict):
        if "pipeline" in part:
            yield part["pipeline"]
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        for each in part:
            yield from _pipelines(each)


def imported() -> tuple[ModuleType, ModuleType]:
    """Import mmcv and mmflow.models, with a stand-in for mmcv's compiled operators when they are missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # mmcv announces its version 2
            mmcv = importlib.import_module("mmcv")
            importlib.import_module("mmcv.cnn.utils")
            try:
                importlib.import_module("mmcv.ops")
            except ImportError:
                sys.modules["mmcv.ops"] = stand_in()
            return mmcv, importlib.import_module("mmflow.models")
    except ImportError as error:
        raise ValueError(f"flow estimator mmflow is not installed ({error}); run: {INSTALL}") from error


def stand_in() -> ModuleType:
    """Make a module with the names that mmflow imports from mmcv.ops."""
    module = ModuleType("mmcv.ops")
    module.Correlation = Correlation
    module.DeformConv2d = _Missing
    module.SyncBatchNorm = _Missing
    return module


class _Missing(nn.Module):
    """An operator that has to be compiled."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise ValueError("this network of mmflow needs compiled operators; install mmcv-full, or take another network")


def located(config: str | Path) -> Path:
    """Find the file of a config; FileNotFoundError lists the wheel's configs with the nearest names."""
    path = Path(config)
    if path.suffix == ".py":
        if not path.is_file():
            raise FileNotFoundError(f"no mmflow config {path}; give a path, or the name of a config in mmflow's wheel")
        return path
    folder = Path(importlib.import_module("mmflow").__file__).parent / ".mim" / "configs"
    result = {each.stem: each for each in sorted(folder.rglob("*.py")) if "_base_" not in each.parts}
    if path.name not in result:
        family = path.name.split("_")[0]
        near = [name for name in result if name.split("_")[0] == family] or sorted({n.split("_")[0] for n in result})
        raise FileNotFoundError(f"mmflow has no config '{config}'; it has {', '.join(near)}")
    return result[path.name]
