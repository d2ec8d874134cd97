"""Plain ViTs, such as DINOv2 and DINOv3, with a simple feature pyramid (ViTDet, Li et al., ECCV 2022, section 3)."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from timm.layers import LayerNorm2d
from torch import SymInt, Tensor, nn
from torch.nn import functional as F

from blda.models.encoders.spatial_prior import SpatialPrior
from blda.models.encoders.timm_encoder import create
from blda.models.weights.reading import check_and_load, read_weights

LEVELS = 4
PRIOR_CELL = 16
"""Side of a patch in the image that the prior sees, in pixels; its strides then give the sizes of the levels."""


class SimplePyramid(nn.Module):
    """Feature pyramid of a ViT: maps (B, inputs, h, w) -> four levels of 4, 2, 1 and 1/2 times their height and width.

    Each level has `width` channels. There are no lateral or top-down connections. One map feeds all levels; four maps
    feed one level each, fine to coarse.
    """

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        half, quarter = inputs // 2, inputs // 4
        self.levels = nn.ModuleList(
            (
                nn.Sequential(
                    nn.ConvTranspose2d(inputs, half, 2, 2),
                    LayerNorm2d(half),
                    nn.GELU(),
                    nn.ConvTranspose2d(half, quarter, 2, 2),
                    *_projection(quarter, width),
                ),
                nn.Sequential(nn.ConvTranspose2d(inputs, half, 2, 2), *_projection(half, width)),
                nn.Sequential(*_projection(inputs, width)),
                nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), *_projection(inputs, width)),
            )
        )

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        inputs = maps if len(maps) > 1 else LEVELS * list(maps)
        return [level(x) for level, x in zip(self.levels, inputs, strict=True)]


def _projection(inputs: int, width: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, width, 1, bias=False),
        LayerNorm2d(width),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        LayerNorm2d(width),
    )


class ViTPyramid(nn.Module):
    """A plain ViT of timm and a `SimplePyramid` on its normalised tokens.

    Normalised images (B, 3, H, W) -> list of (B, width, h_i, w_i), which are 4, 2, 1 and 1/2 times the grid of patches:
    with patches of 16 pixels, strides 4, 8, 16 and 32. H and W may be any: an image is resized up to a whole number of
    patches, so features stay aligned with it, and position embeddings are interpolated to the number of patches.

    model: name of the network in timm, such as 'vit_small_patch14_dinov2.lvd142m' or
        'vit_small_patch16_dinov3.lvd1689m'.
    width: channels of every level.
    blocks: indices, from 0, of the four blocks that feed the levels, fine to coarse, ending with the last block; None
        feeds all levels from the last block.
    pretrained: download timm's weights.
    weights: a path or 'package:NAME' to use instead of the download (see `locate` in `weights/reading.py`), with timm's
        or Meta's parameter names.
    spatial_prior: add a `SpatialPrior` of the image to the levels, which brings details that are finer than a patch.

    Raises ValueError for another kind of network or weights of another network, FileNotFoundError for missing weights.
    """

    def __init__(
        self,
        model: str,
        width: int = 256,
        blocks: Sequence[int] | None = None,
        pretrained: bool = False,
        weights: str | Path | None = None,
        spatial_prior: bool = False,
    ) -> None:
        super().__init__()
        self.net = create(
            model, pretrained and weights is None, "is no plain ViT", num_classes=0, dynamic_img_size=True
        )
        strides = {level["reduction"] for level in getattr(self.net, "feature_info", ())}
        if len(strides) != 1 or not hasattr(self.net, "forward_intermediates"):
            raise ValueError(f"timm's '{model}' is no plain ViT; use model.encoder={{name: timm, model: {model}}}")
        depth = len(self.net.blocks)
        self.blocks = list(blocks or (depth - 1,))
        if blocks is not None and not _is_valid(self.blocks, depth):
            raise ValueError(
                f"model.encoder.blocks is {self.blocks}; '{model}' needs {LEVELS} ascending numbers that end with its "
                f"last block, {depth - 1}"
            )
        self.patch = strides.pop()
        self.channels = (width,) * LEVELS
        self.pretrained_channels = self.net.embed_dim
        self.pyramid = SimplePyramid(self.net.embed_dim, width)
        self.prior = SpatialPrior(width) if spatial_prior else None
        self.mean, self.std = (tuple(self.net.pretrained_cfg[key]) for key in ("mean", "std"))
        if weights is not None:
            check_and_load(self.net, _timm_names(read_weights(weights), self.net), weights, network=model)

    def forward(self, image: Tensor) -> list[Tensor]:
        levels = self.pyramid(self._maps(image))
        if self.prior is None:
            return levels
        details = self.prior(self._in_cells(image, PRIOR_CELL))
        return [level + detail for level, detail in zip(levels, details, strict=True)]

    def pretrained_features(self, image: Tensor) -> Tensor:
        """Return the last block's normalised tokens as a map (B, embed_dim, h, w): what the weights alone compute."""
        return self._maps(image)[-1]

    def _maps(self, image: Tensor) -> list[Tensor]:
        """Return the tokens of the chosen blocks as maps (B, embed_dim, h, w)."""
        image = self._in_cells(image, self.patch)
        return self.net.forward_intermediates(image, indices=self.blocks, norm=True, intermediates_only=True)

    def _in_cells(self, image: Tensor, cell: int) -> Tensor:
        """Resize an image so that every patch, of which a part may be outside, has `cell` pixels a side."""
        # Rounded up without negative numbers: ONNX divides integers towards zero.
        size = [(side + self.patch - 1) // self.patch * cell for side in image.shape[-2:]]
        # Where torch.export leaves the size free, the resize is always in the graph: it changes no whole patches.
        if isinstance(size[0], SymInt) or size != list(image.shape[-2:]):
            image = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
        return image


def _is_valid(blocks: list[int], depth: int) -> bool:
    return len(blocks) == LEVELS and blocks == sorted(set(blocks)) and blocks[0] >= 0 and blocks[-1] == depth - 1


def _timm_names(state: Mapping[str, Tensor], net: nn.Module) -> Mapping[str, Tensor]:
    """Convert the publisher's parameter names to timm's, by timm's own conversion."""
    try:
        return sys.modules[type(net).__module__].checkpoint_filter_fn(dict(state), net)
    except Exception:  # timm does not know the file; the later comparison of names gives a clearer error
        return state
