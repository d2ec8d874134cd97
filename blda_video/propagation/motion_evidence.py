"""Pseudo-labels that also follow how things move: the evidence of a network that sees optical flow alone."""

from __future__ import annotations

import torch
from torch import Tensor

from blda_video.clips.clip import Clip
from blda_video.propagation.averaging_rules import FLOOR
from blda_video.propagation.motion_network import MotionNetwork


class MotionEvidence:
    """Multiply the teacher's probabilities of a clip's key frame by what its flow says of each class.

    p(class | image, flow) ~ p(class | image) (p(class | flow) / p(class))^power is Bayes' rule for image and flow that
    are independent given the class; a power below 1 stands for what they share. Classes that the network was never
    shown get probability 0, as the source has no labels of them. An image none of whose flow is valid keeps its
    probabilities bit for bit.

    network: in evaluation mode, on the device of the clips. power: trust in the flow, at least 0. offsets: those of the
    clips, which must contain the network's; ValueError if not.
    """

    def __init__(self, network: MotionNetwork, power: float, offsets: tuple[int, ...]) -> None:
        missing = [offset for offset in network.offsets if offset not in offsets]
        if missing:
            raise ValueError(
                f"motion.weights: the network needs flow to the frames at {list(network.offsets)}, and the run has "
                f"offsets {list(offsets)}; add {missing} to offsets, or train it again with blda train-motion"
            )
        self.network, self.power = network, power
        self._places = [offsets.index(offset) for offset in network.offsets]
        self._shown = (network.count > 0)[:, None, None]
        self._log_share = (network.count / network.count.sum()).log()[:, None, None]

    def __call__(self, probabilities: Tensor, clip: Clip) -> Tensor:
        """Return the probabilities (B, C, H, W) of the key frames with the evidence of their flow."""
        # Stacked: an index of numbers would be copied to the device, which the host waits for.
        flow, valid = (torch.stack([of[:, k] for k in self._places], 1) for of in (clip.flow, clip.valid))
        with torch.no_grad():
            told = self.network(flow, valid).log_softmax(1)
        scores = probabilities.float().clamp(min=FLOOR).log() + self.power * (told - self._log_share)
        scores = scores.masked_fill(~self._shown, -torch.inf)
        moved = valid.flatten(1).any(1)[:, None, None, None]
        return torch.where(moved, scores.softmax(1).to(probabilities.dtype), probabilities)
