"""RAFT (Teed and Deng, ECCV 2020): torchvision's networks, with its weights or the authors' own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models import optical_flow

from blda.cache_folders import temporary_folder, writable
from blda.models.weights.reading import check_and_load, read_weights
from blda_video.flow.flow_geometry import resize

STRIDE = 8
MINIMUM = 128
"""Shortest side RAFT takes: the coarsest of its four levels of correlation needs two cells."""
NETWORKS = {
    "small": (optical_flow.raft_small, optical_flow.Raft_Small_Weights.DEFAULT),
    "large": (optical_flow.raft_large, optical_flow.Raft_Large_Weights.DEFAULT),
}


class RAFT:
    """RAFT on the device of the images; for blda compute-flow on a GPU rather than for workers of a loader.

    size: 'small' (1.0 M parameters; a pair of 480 x 360 takes about 1.7 s on one core) or 'large' (5.3 M).
    weights: 'default' (torchvision's, downloaded once), or the path of a file with torchvision's names or with those
        of the authors' checkpoints (princeton-vl).
    iterations: refinements; 12 is what the networks are trained with.
    The correlation volume takes H^2 W^2 / 768 bytes: 1.1 GB for 720 x 1280, 5.7 GB for 1024 x 2048.
    Raises ValueError for an unknown size or for other weights, FileNotFoundError for weights that are not there.
    """

    def __init__(self, size: str = "small", weights: str | Path = "default", iterations: int = 12) -> None:
        if size not in NETWORKS:
            raise ValueError(f"unknown RAFT size {size!r}; use {' or '.join(NETWORKS)}")
        if iterations < 1:
            raise ValueError(f"RAFT with {iterations} iterations; use at least 1, usual are 12 to 32")
        make, default = NETWORKS[size]
        self.iterations = iterations
        self.network = make(weights=None).eval().requires_grad_(False)
        path = downloaded(default.url) if weights == "default" else weights
        check_and_load(self.network, torchvision_names(read_weights(path)), path, f"RAFT {size}")

    @torch.no_grad()
    def __call__(self, image: Tensor, neighbour: Tensor) -> Tensor:
        """Flow (B, 2, H, W) float32 pixels, image -> neighbour; both (B, 3, H, W) in [0, 1].

        Any size: the edges are repeated up to multiples of 8. Images with a side below 128 are enlarged to it, and
        their vectors shrunk. ValueError when the shapes differ.
        """
        if image.shape != neighbour.shape:
            shapes = f"{tuple(image.shape)} and {tuple(neighbour.shape)}"
            raise ValueError(f"RAFT needs two images of one shape, not {shapes}; resize the neighbour like the key")
        size = tuple(image.shape[-2:])
        scale = max(MINIMUM / min(size), 1.0)
        enlarged = tuple(round(side * scale) for side in size)
        left, right, top, bottom = edges = padding(enlarged, STRIDE)
        pair = (_enlarged(each.float(), enlarged) for each in (image, neighbour))
        pair = [functional.pad(2 * each - 1, edges, "replicate") for each in pair]
        with torch.autocast(image.device.type, enabled=False):
            flow = self.network.to(image.device)(*pair, num_flow_updates=self.iterations)[-1]
        flow = flow[..., top : flow.shape[-2] - bottom, left : flow.shape[-1] - right]
        return resize(flow, size).contiguous()


def padding(size: tuple[int, int], stride: int) -> tuple[int, int, int, int]:
    """Pixels (left, right, top, bottom) that bring (height, width) to multiples of `stride`, half on either side."""
    tall, wide = (-side % stride for side in size)
    return wide // 2, wide - wide // 2, tall // 2, tall - tall // 2


def _enlarged(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[-2:]) == size:
        return image
    return functional.interpolate(image, size=size, mode="bilinear", align_corners=False)


def downloaded(url: str) -> Path:
    """Return the file of torchvision's weights; download it into torch's cache when it is missing."""
    folder, name = Path(torch.hub.get_dir()) / "checkpoints", url.rsplit("/", 1)[-1]
    if not (folder / name).is_file() and not writable(folder):
        folder = temporary_folder("torch-hub") or folder
    path = folder / name
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Written under another name first; the end of the file's name is the beginning of its hash.
            torch.hub.download_url_to_file(url, str(path), hash_prefix=path.stem.rsplit("-", 1)[-1], progress=False)
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(
                f"cannot download {url} ({error}); put the file at {path}, or give the path of another with weights:"
            ) from error
    return path


RULES = (
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"encoder\.conv1\.", "encoder.convnormrelu.0."),
    (r"encoder\.norm1\.", "encoder.convnormrelu.1."),
    (r"encoder\.conv2\.", "encoder.conv."),
    (r"(layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"(layer\d\.\d)\.norm(\d)\.", r"\1.convnormrelu\2.1."),
    (r"^update_block\.encoder\.conv(c\d|f\d|)\.", r"update_block.motion_encoder.conv\1.0."),
    (r"motion_encoder\.convc", "motion_encoder.convcorr"),
    (r"motion_encoder\.convf", "motion_encoder.convflow"),
    (r"^update_block\.gru\.conv([zrq])(\d?)\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"convgru\.", "convgru1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)
"""The authors' names, without `module.`, to torchvision's; one name may need several."""


def torchvision_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of the authors' RAFT to torchvision's names; any other state is returned unchanged."""
    if not any(name.startswith("fnet.") for name in state):
        return dict(state)
    renamed = {}
    for name, tensor in state.items():
        # The norm of a shortcut is stored twice: as a module of its block and as part of `downsample`.
        shortcut = name.replace(".norm3.", ".downsample.1.")
        if shortcut != name and shortcut in state:
            continue
        for pattern, replacement in RULES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed
