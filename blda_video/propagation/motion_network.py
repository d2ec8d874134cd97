"""Network that tells classes by optical flow alone, and the file that holds it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blda import atomic

FORMAT = "blda motion network 1"
MAKE = "make it with blda train-motion CONFIG"
WIDTH = 16
SLOWEST = 0.05
"""Least median length of a frame's flow, in pixels: a standing camera has no speed to divide by."""


class MotionNetwork(nn.Module):
    """Flow (B, K, 2, H, W) in pixels and its validity (B, K, H, W) bool -> class logits (B, C, H, W).

    A small feature pyramid. Each flow enters as the asinh of its vectors, in pixels and in units of the frame's median
    length, by which the camera's speed cancels, and with its validity. It sees no colour, so a shift of looks does not
    reach it, but for the errors of the flow.

    classes: the C class names. offsets: the K signed frame distances of the flows.

    Buffer `count` (C,) is the number of pixels of each class that it was trained on.
    """

    def __init__(self, classes: Sequence[str], offsets: Sequence[int]) -> None:
        super().__init__()
        self.classes, self.offsets = tuple(classes), tuple(offsets)
        sizes = [WIDTH * factor for factor in (1, 2, 4, 5, 6)]
        inputs = [5 * len(self.offsets), *sizes[:-1]]
        pairs = zip(inputs, sizes, strict=True)
        self.down = nn.ModuleList(nn.Sequential(_layer(a, b, stride=2), _layer(b, b)) for a, b in pairs)
        self.lateral = nn.ModuleList(nn.Conv2d(size, 2 * WIDTH, 1) for size in sizes)
        self.refine = nn.ModuleList(_layer(2 * WIDTH, 2 * WIDTH) for _ in sizes)
        self.classify = nn.Conv2d(2 * WIDTH, len(self.classes), 1)
        self.register_buffer("count", torch.zeros(len(self.classes), dtype=torch.int64))

    def forward(self, flow: Tensor, valid: Tensor) -> Tensor:
        x, levels = _features(flow, valid), []
        for stage in self.down:
            x = stage(x)
            levels.append(x)
        merged = self.refine[-1](self.lateral[-1](x))
        finer = zip(levels[-2::-1], self.lateral[-2::-1], self.refine[-2::-1], strict=True)
        for level, lateral, refine in finer:
            merged = refine(lateral(level) + _resized(merged, level))
        return _resized(self.classify(merged), flow)

    def save(self, path: Path) -> None:
        """Write the network to a file, atomically."""
        facts = {"format": FORMAT, "classes": list(self.classes), "offsets": list(self.offsets)}
        atomic.write_tensors(path, {**facts, "weights": self.state_dict()})

    @classmethod
    def load(cls, path: Path, classes: Sequence[str]) -> MotionNetwork:
        """Read a network of these classes, on the CPU, for prediction.

        Raises FileNotFoundError for a missing file, and ValueError for another kind of file or other class names.
        """
        if not path.is_file():
            raise FileNotFoundError(f"motion.weights: no file {path}; {MAKE}")
        try:
            state = atomic.read_tensors(path)
        except ValueError as error:
            raise ValueError(f"motion.weights: {path} is damaged or of another kind: {error}; {MAKE}") from error
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ValueError(f"motion.weights: {path} holds no motion network; {MAKE}")
        if state["classes"] != list(classes):
            theirs, ours = ", ".join(state["classes"]), ", ".join(classes)
            raise ValueError(f"motion.weights: {path} knows the classes {theirs}; this run has {ours}; {MAKE}")
        network = cls(state["classes"], state["offsets"])
        network.load_state_dict(state["weights"])
        return network.eval().requires_grad_(False)


def _layer(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.GroupNorm(4, outputs), nn.ReLU(inplace=True))


def _features(flow: Tensor, valid: Tensor) -> Tensor:
    """Return what the network sees of flows, (B, 5 K, H, W)."""
    median = flow.norm(dim=2).flatten(2).median(2).values.clamp(min=SLOWEST)[:, :, None, None, None]
    parts = torch.asinh(4 * flow), torch.asinh(4 * flow / median), valid[:, :, None].to(flow.dtype)
    return torch.cat(parts, 2).flatten(1, 2)


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)
