"""Base class of heads on a feature pyramid: embeddings, dropout and classifier; subclasses add the fusion."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn


class PyramidHead(nn.Module, ABC):
    """Head that embeds every level of a pyramid, fuses the embeddings and classifies the result.

    List of features (B, channels[i], h_i, w_i) -> logits (B, classes, h_0, w_0).

    channels: channels of the encoder's levels, fine to coarse.
    num_classes: number of classes.
    embed: channels of each embedding and of the fused features.
    dropout: probability that a feature channel is dropped before the classifier, in training only.
    norm: normalisation of the fusion, 'batch' or 'group'.
    """

    def __init__(
        self, channels: Sequence[int], num_classes: int, embed: int = 256, dropout: float = 0.1, norm: str = "batch"
    ) -> None:
        super().__init__()
        self.width = embed
        self.embed = nn.ModuleList(nn.Conv2d(level, embed, 1) for level in channels)
        self.fuse = self.fusion(embed * len(channels), embed, norm)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(embed, num_classes, 1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    @staticmethod
    @abstractmethod
    def fusion(inputs: int, outputs: int, norm: str) -> nn.Module:
        """Build the fusion: a module from all embedded levels, joined to `inputs` channels, to `outputs` channels."""

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.classify(self.decode(features))

    @abstractmethod
    def decode(self, features: list[Tensor]) -> Tensor:
        """Fuse the levels: (B, width, h_0, w_0)."""

    def classify(self, decoded: Tensor) -> Tensor:
        """Classify fused features: logits (B, classes, h_0, w_0)."""
        return self.classifier(self.dropout(decoded))
