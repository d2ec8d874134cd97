"""ResNet encoders with output stride 8, as DeepLab uses them."""

from __future__ import annotations

from pathlib import Path

import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from blda.models.segmenter import IMAGENET_MEAN, IMAGENET_STD
from blda.models.weights.reading import check_and_load, load_encoder_weights

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
STEMS = ("plain", "deep")


class ResNetEncoder(ResNet):
    """torchvision's ResNet without its classifier; the last two stages are dilated instead of strided.

    Normalised images (B, 3, H, W) -> four levels with strides 4, 8, 8, 8. Parameter names are torchvision's, whose
    weights load without renaming. Dilations are 1, 1, 2, 4, and the first block of a stage has the dilation of the
    stage before; strides are in the 3x3 convolutions.

    depth: 50 or 101.
    stem: 'plain' for one 7x7 convolution, or 'deep' for three 3x3 ones. The deep stem makes mmsegmentation's
        ResNet-V1c, the encoder of DeepLab-v2 in the tables of DAFormer and HRDA.
    pretrained: download torchvision's ImageNet weights; only for the plain stem.
    weights: a path or 'package:NAME' to use instead of the download.

    Raises ValueError for another depth, stem or architecture, FileNotFoundError for missing weights.
    """

    mean, std = IMAGENET_MEAN, IMAGENET_STD
    channels = (256, 512, 1024, 2048)

    def __init__(
        self, depth: int = 101, stem: str = "plain", pretrained: bool = False, weights: str | Path | None = None
    ) -> None:
        if depth not in DEPTHS:
            raise ValueError(f"no ResNet of depth {depth}; choose one of {', '.join(map(str, DEPTHS))}")
        if stem not in STEMS:
            raise ValueError(f"no ResNet stem '{stem}'; choose one of {', '.join(STEMS)}")
        super().__init__(Bottleneck, list(DEPTHS[depth]), replace_stride_with_dilation=[False, True, True])
        del self.avgpool, self.fc
        if stem == "deep":
            self.conv1 = _deep_stem()
        if weights is not None:
            load_encoder_weights(self, weights)
        elif pretrained:
            if stem != "plain":
                raise ValueError("torchvision has no weights for a deep stem; give model.encoder.weights=PATH")
            self._download(f"resnet{depth}")

    def _download(self, name: str) -> None:
        """Download torchvision's weights; FileNotFoundError with their address if that fails."""
        published = torchvision.models.get_model_weights(name).DEFAULT
        try:
            state = published.get_state_dict(progress=False, check_hash=True)
        except OSError as error:
            raise FileNotFoundError(
                f"cannot download the weights of '{name}' ({error}); download {published.url} and give the file with "
                "model.encoder.weights=PATH"
            ) from error
        check_and_load(self, state, published.url)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


def _deep_stem() -> nn.Sequential:
    """Build the deep stem: three 3x3 convolutions of 32, 32 and 64 channels.

    The last one has no norm, because the network's `bn1` follows it.
    """
    convs = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.Conv2d(32, 32, 3, 1, 1, bias=False)]
    last = nn.Conv2d(32, 64, 3, 1, 1, bias=False)
    for conv in (*convs, last):
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    layers = [layer for conv in convs for layer in (conv, nn.BatchNorm2d(32), nn.ReLU(inplace=True))]
    return nn.Sequential(*layers, last)
