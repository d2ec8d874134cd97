"""Metrics of temporal consistency."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from blda.data.protocols import Protocol
from blda.data.sample import IGNORE, Sample
from blda_video.clips.clip import Clip
from blda_video.flow.flow_geometry import warp_labels


class TemporalConsistency:
    """Consistency of predictions along the flow, and accuracy where they are consistent.

    A neighbour's prediction is warped to the key frame, nearest pixel, and compared where the flow is valid.
    Valid flow joins two views of one surface, so the class should never change; only M5 needs labels.

    classes: names of the C classes. protocols: protocols that score M5, the run's first one first.
    counts: (3, C, C) float64 pixels, additive over batches and processes. Samples without context count nothing.
        0: key's class x neighbour's (UVDA's `pred_pred`), for each neighbour.
        1: truth x key's class where key and neighbour say the same (UVDA's `M5`; in its newest code, whose `M5` has
           lost the flow, `M5Fixed`), for each neighbour, over labelled pixels at the label's size.
        2: class of two frames that say the same x class of the frame between them, for each three frames that follow
           each other among the key and its context in order of time, over pixels that the key shares with all three.
    """

    def __init__(self, classes: Sequence[str], protocols: Sequence[Protocol] = ()) -> None:
        self.classes, self.protocols = tuple(classes), tuple(protocols)
        self.counts = torch.zeros(3, len(self.classes), len(self.classes), dtype=torch.float64)

    @torch.no_grad()
    def update(self, sample: Sample, logits: Tensor, predict: Callable[[Tensor], Tensor]) -> None:
        """sample: evaluated batch. logits: (B, C, h, w) of its image. predict: image -> logits, for the context."""
        if not isinstance(sample, Clip) or not sample.offset:
            return
        self.counts = self.counts.to(logits.device)
        key = _classes(logits, sample.image.shape[-2:])
        seen = [self._seen(sample, k, predict) for k in range(len(sample.offset))]
        for other in seen:
            self.counts[0] += self._pairs(key, other)
            if sample.label is not None:
                self.counts[1] += self._right(sample.label, logits, key == other)
        frames = dict(sorted({0: key, **dict(zip(sample.offset, seen, strict=True))}.items()))
        for before, between, after in _threes(list(frames.values())):
            self.counts[2] += self._pairs(torch.where(before == after, before, len(self.classes)), between)

    def compute(self) -> dict[str, float]:
        """In percent, NaN where no pixel was counted.

        consistency: share of compared pixels of one class in both frames; per class: of those that the key calls so.
        temporal_mIoU: mean of temporal_iou/CLASS, the IoU between both predictions, over the classes in either.
        flicker: share, of the pixels that two frames call alike, that the frame between them calls otherwise; per
        class: of those that the two call so. Needs two neighbours, such as -1 and 1 or -2 and -1.
        M5: mIoU of the consistent pixels; per class their IoU. By each protocol, as mIoU is.
        """
        pairs, right, around = self.counts.cpu()
        agreed, same = pairs.diagonal(), around.diagonal()
        iou = agreed / (pairs.sum(0) + pairs.sum(1) - agreed)
        scores = {
            "consistency": 100 * float(agreed.sum() / pairs.sum()),
            "temporal_mIoU": 100 * float(iou[~iou.isnan()].mean()),
            "flicker": 100 * float(1 - same.sum() / around.sum()),
            **self._by_class("consistency", agreed / pairs.sum(1)),
            **self._by_class("temporal_iou", iou),
            **self._by_class("flicker", 1 - same / around.sum(1)),
        }
        for index, protocol in enumerate(self.protocols):
            numbers = _of_consistent(protocol.scores(right, self.classes))
            scores.update(numbers if index == 0 else {})
            scores.update({f"{protocol.name}/{key}": value for key, value in numbers.items()})
        return scores

    def _seen(self, sample: Clip, k: int, predict: Callable[[Tensor], Tensor]) -> Tensor:
        """Class predicted by neighbour k for each key pixel's point, (B, H, W); C where it does not see the point."""
        unseen, flow = len(self.classes), sample.flow[:, k]
        other = _classes(predict(sample.context[:, k]), sample.image.shape[-2:])
        return torch.where(sample.valid[:, k], warp_labels(other, flow, fill=unseen), unseen)

    def _right(self, label: Tensor, logits: Tensor, consistent: Tensor) -> Tensor:
        """Truth x prediction (C, C) of the labelled pixels that are consistent (B, H, W)."""
        size = label.shape[-2:]
        if consistent.shape[-2:] != size:
            consistent = functional.interpolate(consistent[:, None].float(), size, mode="nearest-exact")[:, 0] > 0
        truth = torch.where(consistent & (label != IGNORE), label, len(self.classes))
        return self._pairs(truth, _classes(logits, size))

    def _pairs(self, first: Tensor, second: Tensor) -> Tensor:
        """Count the pixels of each pair of classes, (C, C); pixels with C, which is no class, are left out."""
        side = len(self.classes) + 1
        return torch.bincount((first * side + second).flatten(), minlength=side**2).view(side, side)[:-1, :-1]

    def _by_class(self, name: str, shares: Tensor) -> dict[str, float]:
        return {f"{name}/{c}": 100 * share for c, share in zip(self.classes, shares.tolist(), strict=True)}


def _of_consistent(scores: dict[str, float]) -> dict[str, float]:
    """M5, M5_classes and M5/CLASS out of a protocol's numbers."""
    own = {key.removeprefix("iou/"): value for key, value in scores.items() if key.startswith("iou/")}
    return {
        "M5": scores["mIoU"],
        "M5_classes": scores["mIoU_classes"],
        **{f"M5/{name}": value for name, value in own.items()},
    }


def _threes(frames: list[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Each three that follow each other."""
    return zip(frames, frames[1:], frames[2:], strict=False)


def _classes(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) -> likeliest class (B, H, W) at `size`."""
    if logits.shape[-2:] != size:
        logits = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    return logits.argmax(1)
