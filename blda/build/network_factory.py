"""Networks of a run: the student, its initial weights, its teacher, and heads that only training has."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import nn

from blda.build.reader_factory import class_names
from blda.config.components import Constructors, construct
from blda.config.data_schema import Component
from blda.config.schema import Config, Hrda, Model
from blda.data import seeding
from blda.engine import checkpoint
from blda.models.density_regression import DensityRegression
from blda.models.encoders.mit import MiT
from blda.models.encoders.resnet import ResNetEncoder
from blda.models.encoders.small import SmallEncoder
from blda.models.encoders.timm_encoder import TimmEncoder
from blda.models.encoders.vit_pyramid import ViTPyramid
from blda.models.frozen_features import FrozenFeatures
from blda.models.heads.daformer import DAFormerHead
from blda.models.heads.deeplab import DeepLabV2Head
from blda.models.heads.segformer import SegFormerHead
from blda.models.hrda import HRDA, cell_of
from blda.models.segmenter import Segmenter
from blda.selftraining.teacher import Teacher

ENCODERS: Constructors = {
    "small": SmallEncoder,
    "mit": MiT,
    "resnet": ResNetEncoder,
    "timm": TimmEncoder,
    "vit_pyramid": ViTPyramid,
}
WEIGHTS = ("weights", "pretrained")
"""Keywords of an encoder that name its pretrained weights."""
HEADS: Constructors = {"daformer": DAFormerHead, "deeplab_v2": DeepLabV2Head, "segformer": SegFormerHead}


class NetworkFactory:
    """Factory of a run's networks.

    config: of the run. heads: constructors by `model.head.name`. kind: class of the network that joins encoder and
    head.
    """

    pretrained = True
    """False leaves pretrained weights out of all networks, for measurements that do not depend on them."""

    def __init__(self, config: Config, heads: Constructors = HEADS, kind: Callable[..., nn.Module] = Segmenter) -> None:
        self.config, self._heads, self._kind = config, heads, kind

    def student(self, pretrained: bool = True) -> nn.Module:
        """Build the network; its initial weights are a function of the seed.

        pretrained: False leaves the encoder's own weights out, for a network that a checkpoint fills.
        """
        config = self.config
        torch.manual_seed(seeding.seed_of(config.seed, "student"))
        num_classes = len(class_names(config))
        pretrained = pretrained and self.pretrained
        return network(config.model, num_classes, pretrained, self._heads, self._kind, config.source.crop)

    def start(self, student: nn.Module) -> None:
        """Load `model.weights` into a new student, if the config names them."""
        if self.config.model.weights is not None:
            path = Path(self.config.model.weights)
            checkpoint.restore(path, checkpoint.read(path), {"student": student})

    def teacher(self, student: nn.Module, autocast: Callable[[], AbstractContextManager]) -> Teacher:
        """Build the teacher that is the student's moving average."""
        return Teacher(student, self.config.self_training.momentum, autocast)

    def frozen(
        self, method: str, student: nn.Module, autocast: Callable[[], AbstractContextManager]
    ) -> FrozenFeatures | None:
        """Build the frozen encoder of the foundation distance, None for a method without; a resumed run gets the same.

        student: new, with its encoder's own weights.
        """
        settings = self.config.foundation_distance
        if settings is None or method == "source_only":
            return None
        if settings.encoder is None:
            encoder = copy.deepcopy(student.encoder)
            return FrozenFeatures(encoder, student.mean, student.std, settings.size, autocast)
        part = settings.encoder if self.pretrained else without_weights(settings.encoder)
        encoder = construct("foundation_distance.encoder", part, ENCODERS)
        return FrozenFeatures(encoder, encoder.mean, encoder.std, settings.size, autocast).to(student.mean.device)

    def require_pretrained(self) -> None:
        """Raise ValueError if the foundation distance is to the features of random weights."""
        settings = self.config.foundation_distance
        if settings is not None and not is_pretrained(settings.encoder or self.config.model.encoder):
            key = "model" if settings.encoder is None else "foundation_distance"
            raise ValueError(
                f"foundation_distance is to pretrained features, but {key}.encoder starts at random; give "
                f"{key}.encoder.weights=PATH or .pretrained=true, or set foundation_distance=null"
            )

    def trained(self, method: str, student: nn.Module) -> nn.Module:
        """Build the module that a method trains: the student, or the student with a head that only training has."""
        regresses = method == "blda" and self.config.blda.density is not None
        return DensityRegression(student) if regresses else student


def network(
    model: Model,
    num_classes: int,
    pretrained: bool,
    heads: Constructors,
    kind: Callable[..., nn.Module],
    crop: tuple[int, int] | None = None,
) -> nn.Module:
    """Build encoder and head in a `kind` such as `Segmenter`; initial weights come from the global generator.

    pretrained: False leaves the encoder's own weights out, for a network that a checkpoint fills. crop: (height, width)
    of the training images, from which HRDA takes the size of its windows.
    """
    part = model.encoder if pretrained else without_weights(model.encoder)
    encoder = construct("model.encoder", part, ENCODERS)
    head = construct("model.head", model.head, heads, channels=encoder.channels, num_classes=num_classes)
    if model.hrda is None:
        return kind(encoder, head, encoder.mean, encoder.std)
    part, window = model.hrda.attention, detail_of(model.hrda, crop)
    attention = construct("model.hrda.attention", part, heads, channels=encoder.channels, num_classes=num_classes)
    hrda = model.hrda
    normalised = encoder.mean, encoder.std
    return HRDA(encoder, head, attention, window, *normalised, hrda.scale, hrda.windows, hrda.stride)


def without_weights(encoder: Component) -> Component:
    """Return the component of an encoder that starts at random."""
    return {key: value for key, value in encoder.items() if key not in WEIGHTS}


def is_pretrained(encoder: Component) -> bool:
    """Return whether the component of an encoder names pretrained weights."""
    return any(encoder.get(key) for key in WEIGHTS)


def detail_of(hrda: Hrda, crop: tuple[int, int] | None) -> tuple[int, int]:
    """Return the (height, width) of HRDA's windows: as configured, or half of the crop in whole cells.

    Raises ValueError if none fits.
    """
    cell = cell_of(hrda.scale, hrda.stride)
    if hrda.detail is None:
        if crop is None:
            raise ValueError("model.hrda.detail is missing; give it, or source.crop, whose half is the default")
        height, width = (max(side // 2 // cell, 1) * cell for side in crop)
        return height, width
    if crop is not None and any(side > most for side, most in zip(hrda.detail, crop, strict=True)):
        raise ValueError(f"model.hrda.detail {list(hrda.detail)} exceeds source.crop {list(crop)}; make it smaller")
    return hrda.detail
