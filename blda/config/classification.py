"""Config of an image classifier's run: its keys beside those of a segmentation run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from blda.config.method_schema import Mask
from blda.config.ranges import PositiveShare, Range, Size
from blda.config.schema import Config


@dataclass(frozen=True)
class Classification:
    """Keys of whole-image classification.

    scale: smallest and largest share of the image that a training window shows, null for windows of the crop's size.
    centre: (height, width) that evaluation cuts from the middle, null for all.
    mask: masking of the target's images, null for none.
    memory: weight of a batch in the statistics' fit of the next one, see blda/balance/pooled_statistics.py.
    """

    scale: tuple[PositiveShare, PositiveShare] | None = None
    centre: Size | None = None
    mask: Mask | None = None
    memory: Annotated[float, Range(0, 1, below=True)] = 0.95


@dataclass(frozen=True)
class ClassifyConfig(Config):
    """Config of a run on whole images, chosen by the key `classification`.

    `blda.min_pixels` and `source.rare` count images.
    """

    classification: Classification = Classification()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blda.by_belief:
            raise ValueError("blda.by_belief samples labels of pixels, which a classifier has not; set it to false")
        if self.source.photometric:
            raise ValueError("source.photometric works for segmentation only; remove it from the classifier's config")
        for domain in ("source", "target"):
            if getattr(self, domain).others:
                raise ValueError(f"{domain} is a list of data sets, but a classifier takes one; give one")
        if self.model.hrda is not None:
            raise ValueError("model.hrda: a classifier has no pixel predictions to fuse; remove it from the config")
        if self.self_training.teacher is not None:
            raise ValueError("self_training.teacher labels pixels, which a classifier has not; set it to null")
        if self.feature_distance is not None:
            raise ValueError(
                "feature_distance needs pixel labels of things, which a classifier has not; set it to null"
            )

    def require_equal_crops(self) -> None:
        """Accept any crops: whole images are not mixed, so the sizes of both domains may differ."""
