"""Self-training with the balanced loss in a plain PyTorch loop.

    python examples/plain_pytorch.py

It takes half a minute on a CPU. Streets are drawn here, by day with labels and at dusk without. Replace `streets`,
`network` and the numbers by yours; the loop stays. `--plain` trains the same loop without balance.
"""

from __future__ import annotations

import copy
import sys

import torch
from torch import Tensor, nn

from blda import BalancedLoss

CLASSES = ("sky", "building", "road", "car", "pole")
COLOURS = torch.tensor([[0.6, 0.8, 1.0], [0.6, 0.45, 0.4], [0.4, 0.4, 0.45], [0.8, 0.2, 0.2], [0.75, 0.75, 0.3]])


def streets(count: int, dusk: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw streets: images (B, 3, 32, 48) in [0, 1] and labels (B, 32, 48)."""
    label = torch.zeros(count, 32, 48, dtype=torch.int64)
    for each in label:
        top, ground, car, pole = (int(torch.randint(*span, (), generator=generator)) for span in SPANS)
        each[top:], each[ground:] = 1, 2
        each[ground - 2 : ground + 5, car : car + 8] = 3
        each[top - 3 : ground + 2, pole : pole + 1] = 4
    image = COLOURS[label].movedim(-1, 1) + 0.08 * torch.randn(count, 3, 32, 48, generator=generator)
    if dusk:
        image = 0.55 * image + torch.tensor([0.16, 0.08, 0.05])[:, None, None]
    return image.clamp(0, 1), label


SPANS = ((6, 12), (16, 24), (0, 38), (0, 46))


def network() -> nn.Sequential:
    """Build a small network of full resolution."""
    layers: list[nn.Module] = [nn.Conv2d(3, 24, 3, padding=1), nn.ReLU()]
    for dilation in (2, 4):
        layers += [nn.Conv2d(24, 24, 3, padding=dilation, dilation=dilation), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(24, len(CLASSES), 1))


@torch.no_grad()
def iou(model: nn.Module) -> Tensor:
    """Measure the IoU of every class on streets at dusk that training has not seen."""
    image, label = streets(64, True, torch.Generator().manual_seed(10_000))
    pairs = torch.bincount((label * len(CLASSES) + model(image).argmax(1)).flatten(), minlength=len(CLASSES) ** 2)
    counts = pairs.view(len(CLASSES), -1).double()
    return counts.diagonal() / (counts.sum(0) + counts.sum(1) - counts.diagonal())


def train(steps: int, tau: float = 0.3, resume: dict | None = None) -> dict:
    """Train up to a step, and return a checkpoint; resume: a checkpoint to continue from."""
    torch.manual_seed(0)
    student = network()
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.AdamW(student.parameters(), 3e-3)
    balanced = BalancedLoss(len(CLASSES), tau=tau, warmup=20, min_pixels=10)  # 1: construct
    parts = {"student": student, "teacher": teacher, "optimizer": optimizer, "balanced": balanced}
    first = 0
    if resume is not None:
        first = resume["step"]
        for name, part in parts.items():
            part.load_state_dict(resume[name])
    for step in range(first, steps):
        generator = torch.Generator().manual_seed(step)
        (image, label), (target, _) = streets(4, False, generator), streets(4, True, generator)
        balanced.source_loss(student(image), label).backward()  # 2: source

        confidence, pseudo = teacher(target).softmax(1).max(1)
        weight = (confidence > 0.9).float().mean((1, 2), keepdim=True).expand_as(confidence)
        chosen = torch.rand(len(image), len(CLASSES), generator=generator) < 0.5
        pasted = chosen.gather(1, label.flatten(1)).view_as(label)
        mixed = torch.where(pasted[:, None], image, target)
        labels, weight = torch.where(pasted, label, pseudo), torch.where(pasted, 1.0, weight)
        balanced.target_loss(student(mixed), labels, weight, from_source=pasted).backward()  # 3: target

        optimizer.step()
        optimizer.zero_grad()
        for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
            old.data.lerp_(new.data, max(1 / (step + 2), 0.02))
    return {"step": steps, **{name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}}


if __name__ == "__main__":
    model = network()
    model.load_state_dict(train(300, tau=0.0 if "--plain" in sys.argv else 0.3)["student"])
    for name, value in zip(CLASSES, iou(model), strict=True):
        print(f"{name:10} {100 * value:5.1f}")
    print(f"{'mIoU':10} {100 * iou(model).mean():5.1f}")
