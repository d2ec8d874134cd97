"""AdamW, its parameter groups and the learning rate as a function of the step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import AdamW, Optimizer

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)
FUSED = ("cpu", "cuda")
"""Devices with AdamW in one pass over the weights; on a CPU it takes a fifth of the time."""
HEADS = ("head.", "attention.", "projection.", "encoder.pyramid.", "encoder.prior.")
"""Parts that start at random on top of pretrained weights, by name; see also `Segmenter`."""


Exempt = Callable[[str, nn.Module], bool]
"""(name, module) -> whether the module's own parameters do not decay."""


def is_norm(name: str, module: nn.Module) -> bool:
    """Return whether a module is a norm, in the encoder or in a head."""
    return isinstance(module, NORMS)


def is_encoder_layer_norm(name: str, module: nn.Module) -> bool:
    """Return whether a module is a layer norm outside of heads, the published exemption.

    mmcv's optimizer takes the longest configuration key that occurs in a parameter's name, and the alphabetically first
    of equally long ones: `head` hides `norm`, which occurs in the names of layer norms but not in `bn`.
    """
    return isinstance(module, nn.LayerNorm) and not in_head(name)


def in_head(name: str) -> bool:
    """Return whether a module or parameter of this name is randomly initialised, on top of pretrained weights."""
    return f"{name}.".replace("segmenter.", "").startswith(HEADS)


def adamw(
    model: nn.Module,
    lr: float,
    head_factor: float,
    weight_decay: float,
    exempt: Exempt = is_norm,
    factors: Mapping[nn.Parameter, float] = MappingProxyType({}),
) -> AdamW:
    """Build AdamW with a learning rate of `head_factor * lr` in heads; positions and `exempt` modules do not decay.

    factors: factors of the learning rate of parameters outside of heads, 1 where it names none.
    Every group keeps its own peak rate under `peak`. Norms have groups of their own whether or not they decay, so that
    an optimizer's saved state fits either rule.
    """
    modules = dict(model.named_modules())
    groups: dict[tuple[bool, float, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        owner, _, own = name.rpartition(".")
        position = "pos" in own
        plain = not (position or is_norm(owner, modules[owner]))
        decays = not (position or exempt(owner, modules[owner]))
        head = in_head(name)
        # Falling factors, so that the first group, whose rate is logged, has that of the last layer.
        factor = head_factor if head else factors.get(parameter, 1.0)
        groups.setdefault((head, -factor, plain, decays), []).append(parameter)
    return AdamW(
        [
            {
                "params": parameters,
                "lr": lr * -negative,
                "peak": lr * -negative,
                "weight_decay": weight_decay if decays else 0.0,
            }
            for (_, negative, _, decays), parameters in sorted(groups.items())
        ],
        fused=all(parameter.device.type in FUSED for parameter in model.parameters()),
    )


def rate(step: int, warmup: int, steps: int) -> float:
    """Return the share of the peak rate at a step: linear warm-up from 1e-6, times linear decay to 0 at `steps`."""
    decay = 1 - step / steps
    return decay * (1e-6 + (1 - 1e-6) * step / warmup) if step < warmup else decay


def set_rate(optimizer: Optimizer, share: float) -> None:
    """Set the learning rate of every group to this share of its peak rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share
