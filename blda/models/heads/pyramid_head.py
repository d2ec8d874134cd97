"""What heads on a feature pyramid share: embeddings, dropout and the classifier around a fusion of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn


class PyramidHead(nn.Module, ABC):
    """Embed every level of a pyramid, fuse them, classify.

    channels: of the encoder's levels, fine to coarse. embed: width of each embedding and of the fusion. dropout: share
    of feature channels dropped before the classifier, in training only. norm: 'batch' or 'group'. features: list of
    (B, channels[i], h_i, w_i) -> logits (B, classes, h_0, w_0).
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
        """What makes one map of `outputs` channels of all embedded levels, joined to `inputs`."""

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.classify(self.decode(features))

    @abstractmethod
    def decode(self, features: list[Tensor]) -> Tensor:
        """The fused features (B, width, h_0, w_0)."""

    def classify(self, decoded: Tensor) -> Tensor:
        """Logits (B, classes, h_0, w_0) of fused features."""
        return self.classifier(self.dropout(decoded))
