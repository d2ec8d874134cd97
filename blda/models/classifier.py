"""An image classifier: an encoder, a head on its pooled features, and the normalisation they expect."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from blda.models.layers import conv_norm_act
from blda.models.segmenter import Segmenter


class LinearHead(nn.Module):
    """Linear classifier on the coarsest level, averaged over the image: list of features -> logits (B, classes).

    channels: channels of the encoder's levels; only the last is read.
    num_classes: number of classes.
    bottleneck: width of a layer with normalisation and ReLU before the classifier; None to leave it out.
    norm: normalisation of the bottleneck; 'batch' needs at least two images a batch, 'group' works with one.
    """

    def __init__(
        self, channels: Sequence[int], num_classes: int, bottleneck: int | None = None, norm: str = "batch"
    ) -> None:
        super().__init__()
        width = bottleneck or channels[-1]
        self.bottleneck = conv_norm_act(channels[-1], width, 1, norm=norm) if bottleneck else nn.Identity()
        self.classifier = nn.Linear(width, num_classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, features: list[Tensor]) -> Tensor:
        pooled = features[-1].mean((2, 3), keepdim=True)
        return self.classifier(self.bottleneck(pooled).flatten(1))


class Classifier(Segmenter):
    """Image classifier: a `Segmenter` whose head returns the logits (B, classes) of a whole image, in float32."""

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image)).float()
