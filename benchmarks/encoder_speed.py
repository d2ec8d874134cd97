"""Time forward and backward of our MiT segmenters against transformers' SegFormer, in one process; prints JSON.

    python benchmarks/encoder_speed.py [--device cpu] [--size 256 512] [--batch 2] [--variant b0] [--repeats 9]
        [--threads 1] [--heads segformer daformer]

Each repetition runs all networks one after the other, so that a busy machine slows all alike. Logits are brought to the
image's size and squared in all. Milliseconds are medians; `ratio` is the median over repetitions of ours / theirs.
Needs transformers (pip install '.[test]').
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from blda.models.encoders.mit import EXPANSION, HEADS, REDUCTIONS, VARIANTS, MiT
from blda.models.heads.daformer import DAFormerHead
from blda.models.heads.segformer import SegFormerHead
from blda.models.segmenter import Segmenter
from runs import circumstances

CLASSES = 19


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--size", nargs=2, type=int, default=(256, 512), metavar=("H", "W"))
    arguments.add_argument("--batch", type=int, default=2)
    arguments.add_argument("--variant", choices=VARIANTS, default="b0")
    arguments.add_argument("--repeats", type=int, default=9)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--heads", nargs="+", choices=("segformer", "daformer"), default=("segformer", "daformer"))
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    image = torch.rand(given.batch, 3, *given.size, device=given.device)
    found = compared(given.variant, given.heads, image, given.repeats)
    setting = {"threads": given.threads, "variant": given.variant, "image": list(image.shape)}
    print(json.dumps({**circumstances(given.device), **setting, **found}, indent=1))


def compared(variant: str, heads: tuple[str, ...], image: Tensor, repeats: int) -> dict[str, object]:
    """Milliseconds of every network and the ratios to transformers', encoders alone included."""
    torch.manual_seed(0)
    width = 256 if variant in ("b0", "b1") else 768
    theirs, encoder = transformers_segformer(variant, width).to(image.device).train(), MiT(variant)
    ours = {"segformer": partial_head(SegFormerHead, width), "daformer": partial_head(DAFormerHead, 256)}
    encoder = encoder.to(image.device).train()
    steps: dict[str, Callable[[], Tensor]] = {
        "transformers encoder": lambda: total(theirs.segformer(image, output_hidden_states=True).hidden_states),
        "mit encoder": lambda: total(encoder(image)),
        "transformers segformer": lambda: total([upsampled(theirs(image).logits, image)]),
    }
    for name in heads:
        net = ours[name](MiT(variant)).to(image.device).train()
        steps[f"mit {name}"] = lambda net=net: total([net(image)])
    times = alternated(steps, repeats, image.device)
    pairs = {"mit encoder": "transformers encoder", **{f"mit {name}": "transformers segformer" for name in heads}}
    ratios = {
        own: round(statistics.median(a / b for a, b in zip(times[own], times[other], strict=True)), 3)
        for own, other in pairs.items()
    }
    return {"ms": {name: round(1e3 * statistics.median(each), 1) for name, each in times.items()}, "ratio": ratios}


def transformers_segformer(variant: str, width: int) -> nn.Module:
    channels, depths = VARIANTS[variant]
    return SegformerForSemanticSegmentation(
        SegformerConfig(
            hidden_sizes=list(channels),
            depths=list(depths),
            num_attention_heads=list(HEADS),
            sr_ratios=list(REDUCTIONS),
            mlp_ratios=[EXPANSION] * len(channels),
            decoder_hidden_size=width,
            num_labels=CLASSES,
        )
    )


def partial_head(head: Callable[..., nn.Module], width: int) -> Callable[[MiT], Segmenter]:
    return lambda encoder: Segmenter(encoder, head(encoder.channels, CLASSES, embed=width))


def upsampled(logits: Tensor, image: Tensor) -> Tensor:
    return F.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)


def total(maps: list[Tensor]) -> Tensor:
    """Sum to a scalar whose gradient reaches every map."""
    return sum(each.square().mean() for each in maps)


def alternated(steps: Mapping[str, Callable[[], Tensor]], repeats: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each step's forward and backward, in turns; the first turn only warms up."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step().backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[name].append(time.perf_counter() - start)
    return {name: each[1:] for name, each in times.items()}


if __name__ == "__main__":
    main()
