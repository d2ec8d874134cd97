"""The network of a run from its config."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from blda.config import Model
from blda.models.daformer import DAFormerHead
from blda.models.deeplab import DeepLabV2Head
from blda.models.mit import MiT
from blda.models.resnet import ResNetEncoder
from blda.models.small import SmallEncoder
from blda.models.timm_encoder import TimmEncoder
from blda.parts import Constructors, construct

ENCODERS: Constructors = {"small": SmallEncoder, "mit": MiT, "resnet": ResNetEncoder, "timm": TimmEncoder}
HEADS: Constructors = {"daformer": DAFormerHead, "deeplab_v2": DeepLabV2Head}


def network(
    model: Model, classes: int, pretrained: bool, heads: Constructors, kind: Callable[..., nn.Module]
) -> nn.Module:
    """Encoder and head as the config says, in a `kind` such as `Segmenter`; initial weights by the global generator.

    pretrained: False leaves the encoder's own weights out, for a network that a checkpoint fills.
    """
    part = model.encoder
    if not pretrained:
        part = {key: value for key, value in part.items() if key not in ("weights", "pretrained")}
    encoder = construct("model.encoder", part, ENCODERS)
    head = construct("model.head", model.head, heads, channels=encoder.channels, classes=classes)
    return kind(encoder, head, encoder.mean, encoder.std)
