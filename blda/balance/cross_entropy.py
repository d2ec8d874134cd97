"""Cross-entropy of a labelled batch, plain and balanced (METHOD 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blda.balance import pixels
from blda.balance.alignment import Alignment, balanced, correction, stacked
from blda.balance.kernels.choice import kernels
from blda.data.sample import IGNORE


def cross_entropy(logits: Tensor, label: Tensor, weight: Tensor | None = None) -> Tensor:
    """Compute the weighted cross-entropy, averaged over all pixels including ignored ones (METHOD 4).

    logits: (B, C, *S).
    label: (B, *S) of any integer type.
    weight: weights of the pixels, (B, *S); None for 1.

    Because ignored pixels count in the denominator, the mean over processes equals that of one process with the whole
    batch. Raises ValueError for other shapes, and on a CPU for labels that are not classes; on a GPU such labels make
    the loss NaN, because a check would wait for the device.
    """
    num_classes = logits.shape[1:2].numel()
    label = pixels.checked(logits, label, num_classes)
    weight = pixels.weights_of(weight, label)
    if label.device.type != "cpu":
        wrong = ~pixels.known(label, num_classes) & (label != IGNORE)
        weight = torch.where(wrong, torch.nan, 1.0 if weight is None else weight)
        label = torch.where(wrong, 0, label)
    loss = F.cross_entropy(logits.float(), label, ignore_index=IGNORE, reduction="none")
    return (loss if weight is None else loss * weight).mean()


def balanced_cross_entropy(
    logits: Tensor,
    label: Tensor,
    domains: Sequence[Alignment],
    tau: float,
    domain: Tensor | int = 0,
    weight: Tensor | None = None,
) -> Tensor:
    """Compute `cross_entropy` of the balanced logits z - tau * Delta_y(z), with no gradient through Delta (METHOD 4).

    `cross_entropy` and `correction` document the parameters; tau is the strength of the correction. Compiled kernels
    read the logits once and write their gradient once, without temporaries of that size.
    """
    compiled = kernels(logits.device.type) if torch.is_tensor(label) and label.numel() else None
    if compiled is None:
        return cross_entropy(balanced(logits, correction(logits, label, domains, domain), tau), label, weight)
    num_classes = logits.shape[1:2].numel()
    aligned = stacked(domains, num_classes)
    label = pixels.checked(logits, label, num_classes)
    pixels.same_device("alignment", aligned.lookup, logits)
    domain = pixels.domains_of(domain, label, num_classes, len(aligned.lookup) // num_classes)
    weight = pixels.weights_of(weight, label)
    # The weights are divided by the number of pixels, which saves a pass over the gradient. In half precision the loss
    # is divided instead: a gradient scaler must multiply first, or small gradients vanish.
    early, late = (label.numel(), 1) if logits.dtype == torch.float32 else (1, label.numel())
    where = pixels.flat_map(domain) if isinstance(domain, Tensor) else domain
    maps = pixels.flat_map(label), where, None if weight is None else pixels.flat_map(weight)
    loss = _Balanced.apply(pixels.flat_logits(logits), maps, early, aligned, tau, compiled)
    return loss if late == 1 else loss / late


class _Balanced(torch.autograd.Function):
    """Autograd function of a loss whose kernel computes the gradient too; it allows one backward."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, maps: tuple, divisor: int, aligned: Alignment, tau: float, compiled: Any
    ) -> Tensor:
        loss, ctx.gradient = compiled.loss_and_gradient(logits.detach(), *maps, divisor, *aligned, tau)
        return loss.float()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradient is None:
            raise RuntimeError("the balanced loss has had its backward before; compute the loss again")
        gradient, ctx.gradient = ctx.gradient, None
        # In place, as a copy would be as large as the logits. On a GPU, reading the slope would wait for the device.
        if slope.device.type != "cpu" or slope != 1:
            gradient.mul_(slope)
        return gradient, None, None, None, None, None
