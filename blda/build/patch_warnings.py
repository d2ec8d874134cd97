"""Warning about training images that are no whole number of a ViT's patches, told before the first step."""

from __future__ import annotations

import math

from blda.config.schema import Config
from blda.models.hrda import cell_of


def patch_warnings(config: Config, patch: int | None) -> list[str]:
    """Return one line if the encoder has to resize the training images to whole patches, with the nearest crops.

    config: of the run, at resolution 1. patch: side of the encoder's patches in pixels, None for one without.
    """
    crop, hrda = config.source.crop, config.model.hrda
    if patch is None or crop is None:
        return []
    # HRDA shrinks its context by a whole number, and its windows lie on cells.
    unit = patch if hrda is None else math.lcm(patch * round(1 / hrda.scale), cell_of(hrda.scale, hrda.stride))
    if not any(side % unit for side in crop):
        return []
    smaller, larger = ([max(rounded(side / unit), 1) * unit for side in crop] for rounded in (math.floor, math.ceil))
    shown = "" if hrda is None else f" at the scales of model.hrda, whose crops are multiples of {unit}"
    return [
        f"patches of {patch} pixels do not divide source.crop {list(crop)}{shown}, so every image is resized by a few "
        f"pixels; set source.crop and target.crop to {smaller} or {larger} (divided by `resolution`, if it is not 1)"
    ]
