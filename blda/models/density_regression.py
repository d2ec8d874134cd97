"""Cumulative-density regression, whose target is shared by all classes (paper 3.3.5)."""

from __future__ import annotations

from torch import Tensor, nn

from blda.models.heads.pyramid_head import PyramidHead
from blda.models.hrda import HRDA
from blda.models.output import Output
from blda.models.segmenter import Segmenter


class DensityRegression(nn.Module):
    """A segmenter with a 1 x 1 regression head on the features that its head classifies (METHOD 5).

    Maps images (B, 3, H, W) to an `Output` with `density`. It is used in training only: prediction, the teacher and
    checkpoints use the segmenter itself.

    segmenter: segmenter whose head is a `PyramidHead`; ValueError otherwise.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        if isinstance(segmenter, HRDA):
            raise ValueError(
                "blda.density: model.hrda has features of two resolutions for a pixel; leave one of the two out"
            )
        if not isinstance(segmenter.head, PyramidHead):
            raise ValueError(
                f"blda.density: the head {type(segmenter.head).__name__} has no features to regress from; "
                "use model.head={name: daformer} or leave blda.density out"
            )
        self.segmenter = segmenter
        self.head = nn.Conv2d(segmenter.head.width, 1, 1)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.constant_(self.head.bias, 0.5)  # the mean of any cumulative density

    def forward(self, image: Tensor) -> Output:
        features = self.segmenter.features(image)
        decoded = self.segmenter.head.decode(features)
        logits = self.segmenter.upsampled(self.segmenter.head.classify(decoded), image)
        return Output(logits, self.segmenter.upsampled(self.head(decoded), image)[:, 0])
