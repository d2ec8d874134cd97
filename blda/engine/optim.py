"""AdamW, its parameter groups and the learning rate as a function of the step."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import AdamW, Optimizer

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)
FUSED = ("cpu", "cuda")
"""Devices with AdamW in one pass over the weights; on a CPU it takes a fifth of the time."""
HEADS = ("head.", "attention.", "encoder.pyramid.")
"""What starts at random on top of pretrained weights, by name; see also `Segmenter`."""


def adamw(model: nn.Module, lr: float, head_factor: float, weight_decay: float) -> AdamW:
    """AdamW over four groups: heads learn `head_factor` times faster; norms and positions do not decay.

    Every group keeps its own peak rate under `peak`.
    """
    norms = {p for m in model.modules() if isinstance(m, NORMS) for p in m.parameters(recurse=False)}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = parameter not in norms and "pos" not in name.rsplit(".", 1)[-1]
            in_head = name.removeprefix("segmenter.").startswith(HEADS)
            groups.setdefault((in_head, decays), []).append(parameter)
    return AdamW(
        [
            {
                "params": parameters,
                "lr": lr * (head_factor if head else 1),
                "peak": lr * (head_factor if head else 1),
                "weight_decay": weight_decay if decays else 0.0,
            }
            for (head, decays), parameters in sorted(groups.items())
        ],
        fused=all(parameter.device.type in FUSED for parameter in model.parameters()),
    )


def rate(step: int, warmup: int, steps: int) -> float:
    """Share of the peak rate at a step: linear warm-up from 1e-6 of it, on a linear decay to zero at `steps`."""
    decay = 1 - step / steps
    return decay * (1e-6 + (1 - 1e-6) * step / warmup) if step < warmup else decay


def set_rate(optimizer: Optimizer, share: float) -> None:
    """Give every group this share of its peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share
