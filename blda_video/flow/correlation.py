"""Correlation of feature maps without a compiled operator."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Correlation(nn.Module):
    """Correlation of feature maps in PyTorch with the arguments and results of mmcv's compiled `Correlation`; any
    device.

    out[n, p, q, i, j] = sum over channels c and a kernel's (k, l) of a[n, c, y, x] b[n, c, y + dp, x + dq] with y = i
    stride - padding + k dilation, dp = (p - max_displacement) dilation_patch, and alike for x, dq, l, q. Outside the
    maps both are 0. The sum is not divided by the number of its terms.
    """

    def __init__(
        self,
        kernel_size: int = 1,
        max_displacement: int = 1,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        dilation_patch: int = 1,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.max_displacement = max_displacement
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.dilation_patch = dilation_patch

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """a, b: (N, C, H, W) -> (N, D, D, h, w), D = 2 max_displacement + 1, displacements down, then right."""
        height, width = a.shape[-2:]
        steps = range(0, (2 * self.max_displacement + 1) * self.dilation_patch, self.dilation_patch)
        wide = functional.pad(b, (self.max_displacement * self.dilation_patch,) * 4)
        rows = [
            torch.stack([self._pooled((a * wide[..., y : y + height, x : x + width]).sum(1)) for x in steps], 1)
            for y in steps
        ]
        return torch.stack(rows, 1)

    def _pooled(self, products: Tensor) -> Tensor:
        """(N, H, W) products -> (N, h, w) sums over the kernel."""
        kernel = products.new_ones(1, 1, self.kernel_size, self.kernel_size)
        summed = functional.conv2d(
            products[:, None], kernel, stride=self.stride, padding=self.padding, dilation=self.dilation
        )
        return summed[:, 0]
