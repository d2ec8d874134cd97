"""ResNet encoders with output stride 8, as DeepLab uses them."""

from __future__ import annotations

from pathlib import Path

import torchvision
from torch import Tensor
from torchvision.models.resnet import Bottleneck, ResNet

from blda.models.segmenter import IMAGENET_MEAN, IMAGENET_STD
from blda.models.weights import check_and_load, load_encoder_weights

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class ResNetEncoder(ResNet):
    """torchvision's ResNet without its classifier; the last two stages are dilated instead of strided.

    Parameter names are torchvision's, so that its weights load as they are.
    depth: 50 or 101. pretrained: download torchvision's ImageNet weights. weights: instead of that, a path or
    'package:NAME'. image (B, 3, H, W), normalised -> four levels with strides 4, 8, 8, 8.

    Raises ValueError for another depth or architecture, FileNotFoundError for absent weights.
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD
    channels = (256, 512, 1024, 2048)

    def __init__(self, depth: int = 101, pretrained: bool = False, weights: str | Path | None = None) -> None:
        if depth not in DEPTHS:
            raise ValueError(f"no ResNet of depth {depth}; choose one of {', '.join(map(str, DEPTHS))}")
        super().__init__(Bottleneck, list(DEPTHS[depth]), replace_stride_with_dilation=[False, True, True])
        del self.avgpool, self.fc
        if weights is not None:
            load_encoder_weights(self, weights)
        elif pretrained:
            self._download(f"resnet{depth}")

    def _download(self, name: str) -> None:
        published = torchvision.models.get_model_weights(name).DEFAULT
        try:
            state = published.get_state_dict(progress=False, check_hash=True)
        except OSError as error:
            raise FileNotFoundError(
                f"cannot download the weights of '{name}' ({error}); give a file with model.encoder.weights=PATH, "
                f"its address is {published.url}"
            ) from error
        check_and_load(self, state, published.url)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features
