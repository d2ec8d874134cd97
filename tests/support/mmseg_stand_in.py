"""Stand-in for the interfaces of MMSegmentation 1.x and MMEngine that an example uses, after their documentation.

`install` puts it into `sys.modules`, unless the real packages can be imported.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Registry:
    """Classes by name; `build` calls the one that `type` names with the other keys."""

    def __init__(self) -> None:
        self.classes: dict[str, type] = {}

    def register_module(self):
        return lambda kind: self.classes.setdefault(kind.__name__, kind)

    def build(self, config: dict) -> Any:
        keywords = dict(config)
        return self.classes[keywords.pop("type")](**keywords)


MODELS = Registry()


class PixelData:
    """Pixels of one image: `data` of (1, H, W)."""

    def __init__(self, data: Tensor) -> None:
        self.data = data


class SegDataSample:
    """One image's labels, if it has any."""

    def __contains__(self, name: str) -> bool:
        return name in self.__dict__


def resize(input: Tensor, size=None, mode: str = "nearest", align_corners=None) -> Tensor:
    return F.interpolate(input, size, mode=mode, align_corners=align_corners)


@MODELS.register_module()
class FCNHead(nn.Module):
    """A decode head of one convolution; `loss_by_feat` calls `loss_decode` as `BaseDecodeHead` does."""

    def __init__(
        self, in_channels: int, channels: int, num_classes: int, loss_decode: dict, ignore_index: int = 255, **_
    ) -> None:
        super().__init__()
        self.num_classes, self.ignore_index, self.align_corners = num_classes, ignore_index, False
        self.convs = nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1), nn.ReLU())
        self.loss_decode, self.conv_seg = MODELS.build(loss_decode), nn.Conv2d(channels, num_classes, 1)

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        return self.conv_seg(self.convs(inputs[-1]))

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: list) -> dict[str, Tensor]:
        label = torch.stack([sample.gt_sem_seg.data for sample in batch_data_samples])
        logits, loss = resize(seg_logits, label.shape[2:], "bilinear", self.align_corners), self.loss_decode
        return {loss.loss_name: loss(logits, label.squeeze(1), weight=None, ignore_index=self.ignore_index)}


@MODELS.register_module()
class EncoderDecoder(nn.Module):
    """`BaseSegmentor` and `BaseModel` in training: `train_step` calls `loss` and sums what is named loss."""

    with_neck = False

    def __init__(self, backbone: dict, decode_head: dict, data_preprocessor: dict | None = None, **_) -> None:
        super().__init__()
        self.backbone, self.decode_head = MODELS.build(backbone), MODELS.build(decode_head)

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        return self.backbone(inputs)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        losses = self.decode_head.loss_by_feat(self.decode_head.forward(self.extract_feat(inputs)), data_samples)
        return {f"decode.{name}": value for name, value in losses.items()}

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = "tensor") -> Any:
        if mode == "loss":
            return self.loss(inputs, data_samples)
        return self.decode_head.forward(self.extract_feat(inputs))

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        with optim_wrapper.optim_context(self):
            losses = self(torch.stack(data["inputs"]).float(), data["data_samples"], mode="loss")
        optim_wrapper.update_params(sum(value.mean() for name, value in losses.items() if "loss" in name))
        return losses


class OptimWrapper:
    """An optimizer, and the steps that use it."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def optim_context(self, model: nn.Module) -> nullcontext:
        return nullcontext()

    def update_params(self, loss: Tensor) -> None:
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


CONTENTS = {
    "mmengine": [],
    "mmengine.optim": [OptimWrapper],
    "mmengine.structures": [PixelData],
    "mmseg": [],
    "mmseg.registry": [],
    "mmseg.models": [EncoderDecoder],
    "mmseg.models.utils": [resize],
    "mmseg.structures": [SegDataSample],
}


def install(monkeypatch) -> bool:
    """Make `import mmseg` work; return whether the real one is there."""
    try:
        importlib.import_module("mmseg.models")
    except Exception:  # it is not installed, or mmcv's operators are not
        for name, contents in CONTENTS.items():
            module = ModuleType(name)
            vars(module).update({each.__name__: each for each in contents})
            monkeypatch.setitem(sys.modules, name, module)
        sys.modules["mmseg.registry"].MODELS = MODELS
        return False
    return True
