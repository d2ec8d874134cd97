"""Names and shapes of published checkpoints, written out from the architectures' descriptions.

Facts about lhoyer/DAFormer, lhoyer/HRDA, lhoyer/MIC (mmsegmentation 0.x, mmcv's ConvModule), NVlabs/SegFormer and
transformers; nothing here knows our own names.
"""

from __future__ import annotations

import torch

Shapes = dict[str, tuple[int, ...]]
WIDE = (64, 128, 320, 512)
MIT = {"b0": ((32, 64, 160, 256), (2, 2, 2, 2)), "b5": (WIDE, (3, 6, 40, 3))}


def affine(name: str, *weight: int) -> Shapes:
    """A layer with bias."""
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


def batch_norm(name: str, channels: int) -> Shapes:
    running = {f"{name}.{kind}": (channels,) for kind in ("running_mean", "running_var")}
    return {**affine(name, channels), **running, f"{name}.num_batches_tracked": ()}


def conv_module(name: str, *weight: int) -> Shapes:
    """mmcv's convolution without bias, then a norm."""
    return {f"{name}.conv.weight": weight, **batch_norm(f"{name}.bn", weight[0])}


def mit(prefix: str, variant: str) -> Shapes:
    """The SegFormer authors' MixVisionTransformer, without a classifier."""
    shapes: Shapes = {}
    inputs = 3
    for stage, (c, depth, reduction) in enumerate(zip(*MIT[variant], (8, 4, 2, 1), strict=True), start=1):
        kernel = 7 if stage == 1 else 3
        shapes |= affine(f"{prefix}patch_embed{stage}.proj", c, inputs, kernel, kernel)
        shapes |= affine(f"{prefix}patch_embed{stage}.norm", c)
        for number in range(depth):
            block = f"{prefix}block{stage}.{number}"
            shapes |= affine(f"{block}.norm1", c) | affine(f"{block}.norm2", c)
            shapes |= affine(f"{block}.attn.q", c, c) | affine(f"{block}.attn.kv", 2 * c, c)
            shapes |= affine(f"{block}.attn.proj", c, c)
            if reduction > 1:
                shapes |= affine(f"{block}.attn.sr", c, c, reduction, reduction) | affine(f"{block}.attn.norm", c)
            shapes |= affine(f"{block}.mlp.fc1", 4 * c, c) | affine(f"{block}.mlp.fc2", c, 4 * c)
            shapes |= affine(f"{block}.mlp.dwconv.dwconv", 4 * c, 1, 3, 3)
        shapes |= affine(f"{prefix}norm{stage}", c)
        inputs = c
    return shapes


def hugging_face_mit(prefix: str, variant: str) -> Shapes:
    """transformers' SegformerEncoder, as stored."""
    shapes: Shapes = {}
    inputs = 3
    for stage, (c, depth, reduction) in enumerate(zip(*MIT[variant], (8, 4, 2, 1), strict=True)):
        kernel = 3 if stage else 7
        shapes |= affine(f"{prefix}patch_embeddings.{stage}.proj", c, inputs, kernel, kernel)
        shapes |= affine(f"{prefix}patch_embeddings.{stage}.layer_norm", c)
        for number in range(depth):
            block = f"{prefix}block.{stage}.{number}"
            shapes |= affine(f"{block}.layer_norm_1", c) | affine(f"{block}.layer_norm_2", c)
            for name in ("self.query", "self.key", "self.value", "output.dense"):
                shapes |= affine(f"{block}.attention.{name}", c, c)
            if reduction > 1:
                shapes |= affine(f"{block}.attention.self.sr", c, c, reduction, reduction)
                shapes |= affine(f"{block}.attention.self.layer_norm", c)
            shapes |= affine(f"{block}.mlp.dense1", 4 * c, c) | affine(f"{block}.mlp.dense2", c, 4 * c)
            shapes |= affine(f"{block}.mlp.dwconv.dwconv", 4 * c, 1, 3, 3)
        shapes |= affine(f"{prefix}layer_norm.{stage}", c)
        inputs = c
    return shapes


def embeddings(prefix: str, levels: tuple[int, ...], width: int) -> Shapes:
    """`prefix` has the number of the level in braces."""
    found: Shapes = {}
    for i, level in enumerate(levels):
        found |= affine(f"{prefix.format(i)}.proj", width, level)
    return found


def daformer_head(prefix: str, levels: tuple[int, ...], classes: int, width: int = 256) -> Shapes:
    """DAFormerHead of daformer_sepaspp: dilations 1, 6, 12, 18, no pooling."""
    total, fuse = width * len(levels), f"{prefix}fuse_layer"
    shapes = affine(f"{prefix}conv_seg", classes, width, 1, 1) | embeddings(prefix + "embed_layers.{}", levels, width)
    shapes |= conv_module(f"{fuse}.aspp_modules.0", width, total, 1, 1)
    for branch in (1, 2, 3):
        shapes |= conv_module(f"{fuse}.aspp_modules.{branch}.depthwise_conv", total, 1, 3, 3)
        shapes |= conv_module(f"{fuse}.aspp_modules.{branch}.pointwise_conv", width, total, 1, 1)
    return shapes | conv_module(f"{fuse}.bottleneck", width, 4 * width, 3, 3)


def daformer(variant: str = "b5", classes: int = 19, width: int = 256) -> Shapes:
    return mit("backbone.", variant) | daformer_head("decode_head.", MIT[variant][0], classes, width)


def hrda(variant: str = "b5", classes: int = 19, width: int = 256) -> Shapes:
    """HRDAHead: a shared head, and an attention that is a DAFormerHead with a 1x1 fusion; no classifier of its own."""
    levels, attention = MIT[variant][0], "decode_head.scale_attention."
    shapes = mit("backbone.", variant) | daformer_head("decode_head.head.", levels, classes, width)
    shapes |= affine(f"{attention}conv_seg", classes, width, 1, 1)
    shapes |= embeddings(attention + "embed_layers.{}", levels, width)
    return shapes | conv_module(f"{attention}fuse_layer", width, 4 * width, 1, 1)


def segformer(variant: str = "b5", classes: int = 19, width: int = 768) -> Shapes:
    """SegFormerHead of lhoyer/DAFormer; `conv_seg` is the base class's and unused."""
    shapes = mit("backbone.", variant) | embeddings("decode_head.linear_c.{}", MIT[variant][0], width)
    shapes |= conv_module("decode_head.linear_fuse", width, 4 * width, 1, 1)
    shapes |= affine("decode_head.linear_pred", classes, width, 1, 1)
    return shapes | affine("decode_head.conv_seg", classes, 128, 1, 1)


def segformer_authors(variant: str = "b5", classes: int = 19, width: int = 768) -> Shapes:
    """SegFormerHead of NVlabs/SegFormer; it joins the levels coarse to fine."""
    names = {f"decode_head.linear_c.{i}.": f"decode_head.linear_c{i + 1}." for i in range(4)}
    shapes = segformer(variant, classes, width)
    for old, new in names.items():
        shapes = {name.replace(old, new): shape for name, shape in shapes.items()}
    return shapes


def segformer_hugging_face(variant: str = "b5", classes: int = 19, width: int = 768) -> Shapes:
    """SegformerForSemanticSegmentation; it joins the levels coarse to fine."""
    shapes = hugging_face_mit("segformer.encoder.", variant)
    shapes |= embeddings("decode_head.linear_c.{}", MIT[variant][0], width)
    shapes |= {"decode_head.linear_fuse.weight": (width, 4 * width, 1, 1)}
    shapes |= batch_norm("decode_head.batch_norm", width)
    return shapes | affine("decode_head.classifier", classes, width, 1, 1)


def resnet_v1c(prefix: str, depths: tuple[int, ...] = (3, 4, 23, 3)) -> Shapes:
    """mmsegmentation's ResNetV1c: a stem of three convolutions, bottleneck blocks."""
    shapes: Shapes = {}
    for place, (outputs, inputs) in zip((0, 3, 6), ((32, 3), (32, 32), (64, 32)), strict=True):
        shapes[f"{prefix}stem.{place}.weight"] = (outputs, inputs, 3, 3)
        shapes |= batch_norm(f"{prefix}stem.{place + 1}", outputs)
    inputs = 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        for number in range(depth):
            block = f"{prefix}layer{stage + 1}.{number}"
            convs = ((width, inputs, 1), (width, width, 3), (4 * width, width, 1))
            for i, (outputs, given, kernel) in enumerate(convs, start=1):
                shapes[f"{block}.conv{i}.weight"] = (outputs, given, kernel, kernel)
                shapes |= batch_norm(f"{block}.bn{i}", outputs)
            if number == 0:
                shapes[f"{block}.downsample.0.weight"] = (4 * width, inputs, 1, 1)
                shapes |= batch_norm(f"{block}.downsample.1", 4 * width)
            inputs = 4 * width
    return shapes


def deeplab_v2(classes: int = 19, dilations: int = 4) -> Shapes:
    """DLV2Head: convolutions with bias and nothing else."""
    shapes = resnet_v1c("backbone.")
    for i in range(dilations):
        shapes |= affine(f"decode_head.aspp_modules.{i}.conv", classes, 2048, 3, 3)
    return shapes


def hrda_deeplab(classes: int = 19) -> Shapes:
    """HRDAHead around DLV2Head: the attention is one too."""
    shapes = resnet_v1c("backbone.")
    for part in ("head", "scale_attention"):
        for i in range(4):
            shapes |= affine(f"decode_head.{part}.aspp_modules.{i}.conv", classes, 2048, 3, 3)
    return shapes


def filled(shapes: Shapes, seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors of these shapes: small, variances positive."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            state[name] = 0.5 + torch.rand(shape, generator=generator)
        else:
            state[name] = 0.1 * torch.randn(shape, generator=generator)
    return state
