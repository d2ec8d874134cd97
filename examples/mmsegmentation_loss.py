"""Self-training with the balanced loss in MMSegmentation 1.x: a loss and a segmentor for its configs.

    python examples/mmsegmentation_loss.py     # prints what to put into a config

`BalancedCrossEntropy` is a `loss_decode` of any decode head. `SelfTrainingSegmentor` is an `EncoderDecoder` whose
batches hold as many images of one domain as of the other: a sample without `gt_sem_seg` is of the target. So leave
`LoadAnnotations` out of the target's pipeline, and draw both domains into every batch. The teacher, the statistics and
their counters are in the checkpoints of MMEngine, and `resume=True` continues with them.

MMSegmentation needs the compiled operators of mmcv, which have no wheel for today's torch, so the project's tests run
this file on a stand-in for the interfaces that it uses (`tests/support/mmseg_stand_in.py`). With the names of those
operators stubbed, the same tests were run on mmsegmentation 1.2.2, mmengine 0.10.7 and mmcv-lite 2.1.0.
"""

from __future__ import annotations

import copy

import torch
from mmseg.models import EncoderDecoder
from mmseg.models.utils import resize
from mmseg.registry import MODELS
from torch import Tensor, nn

from blda import BalancedLoss

CONFIG = """
custom_imports = dict(imports=["mmsegmentation_loss"])   # with examples/ in PYTHONPATH
model = dict(
    type="SelfTrainingSegmentor",
    decode_head=dict(loss_decode=dict(type="BalancedCrossEntropy", num_classes=19, tau=0.1, warmup=1500)),
)
"""


@MODELS.register_module()
class BalancedCrossEntropy(nn.Module):
    """`BalancedLoss` as a loss of a decode head; without `from_source` a batch is of the source."""

    def __init__(
        self, num_classes: int, loss_weight: float = 1.0, loss_name: str = "loss_balanced", **settings
    ) -> None:
        super().__init__()
        self.balanced, self.loss_weight, self.loss_name = BalancedLoss(num_classes, **settings), loss_weight, loss_name

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: str | None = None,
        ignore_index: int = 255,
        from_source: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of logits (B, C, H, W) and labels (B, H, W); weight: (B, H, W) or None."""
        if avg_factor is not None or reduction_override not in (None, "mean"):
            raise ValueError("BalancedCrossEntropy is a mean over all pixels; leave avg_factor and reduction_override")
        label = torch.where(label == ignore_index, 255, label)
        if from_source is None:
            return self.loss_weight * self.balanced.source_loss(cls_score, label, weight)
        return self.loss_weight * self.balanced.target_loss(cls_score, label, weight, from_source)


@MODELS.register_module()
class SelfTrainingSegmentor(EncoderDecoder):
    """Encoder and decoder that learn from labelled images and from a teacher's labels of the others.

    alpha: share of the teacher that an update keeps, at most. threshold: probability from which a pixel is confident.
    """

    def __init__(self, *args, alpha: float = 0.999, threshold: float = 0.968, **keywords) -> None:
        super().__init__(*args, **keywords)
        if self.with_neck:
            raise ValueError("SelfTrainingSegmentor has no teacher of a neck; add one to `teacher` for such a network")
        self.alpha, self.threshold = alpha, threshold
        self.teacher = nn.ModuleList(map(copy.deepcopy, (self.backbone, self.decode_head))).requires_grad_(False)
        del self.teacher[1].loss_decode
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Return the losses of the source's samples and of mixed images; inputs: (B, 3, H, W)."""
        self._update_teacher()
        labelled = torch.tensor(["gt_sem_seg" in sample for sample in data_samples], device=inputs.device)
        count = int(labelled.sum())
        if 2 * count != len(inputs):
            raise ValueError(f"{count} of {len(inputs)} samples are labelled; give as many images of either domain")
        source, target = inputs[labelled], inputs[~labelled]
        label = torch.stack([sample.gt_sem_seg.data for sample in data_samples if "gt_sem_seg" in sample])[:, 0].long()
        pseudo, weight = self._pseudo_labels(target, label.shape[-2:])

        chosen = torch.rand(count, 256, device=label.device) < 0.5
        pasted = chosen.gather(1, label.flatten(1)).view_as(label) & (label != self.decode_head.ignore_index)
        mixed = torch.where(pasted[:, None], source, target)
        weight = torch.where(pasted, 1.0, weight)
        # One forward of both, because DistributedDataParallel wants one for each backward.
        logits = self.decode_head.forward(self.extract_feat(torch.cat((source, mixed))))
        of_source, of_mixed = resize(logits, size=label.shape[-2:], mode="bilinear").chunk(2)
        loss, ignored = self.decode_head.loss_decode, self.decode_head.ignore_index
        of_target = torch.where(pasted, label, pseudo), weight
        return {
            f"source.{loss.loss_name}": loss(of_source, label, ignore_index=ignored),
            f"mixed.{loss.loss_name}": loss(of_mixed, *of_target, ignore_index=ignored, from_source=pasted),
        }

    @torch.no_grad()
    def _pseudo_labels(self, target: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Label the target by the teacher, weighted by the share of confident pixels of an image."""
        backbone, head = self.teacher.eval()
        logits = resize(head.forward(backbone(target)), size=size, mode="bilinear")
        confidence, label = logits.softmax(1).max(1)
        return label, (confidence > self.threshold).float().mean((1, 2), keepdim=True).expand_as(confidence)

    @torch.no_grad()
    def _update_teacher(self) -> None:
        """Average the student's parameters, and copy its buffers; the first update copies all."""
        keep = min(1 - 1 / (self.updates + 1), self.alpha)
        students = (self.backbone.state_dict(), self.decode_head.state_dict())
        for teacher, student in zip(self.teacher, students, strict=True):
            for name, value in teacher.named_parameters():
                value.lerp_(student[name], 1 - keep)
            for name, value in teacher.named_buffers():
                value.copy_(student[name])
        self.updates += 1


if __name__ == "__main__":
    print(CONFIG)
