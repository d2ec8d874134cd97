"""Self-training with the balanced loss in the Trainer of transformers.

    pip install transformers
    python examples/transformers_trainer.py     # half a minute on one core of a CPU

A tiny SegFormer starts from a config, so nothing is downloaded; start yours with
`SegformerForSemanticSegmentation.from_pretrained(NAME)`. A row of the data set has a source image, its labels and a
target image. Student, teacher and loss are one module, so checkpoints of the Trainer hold their state, and
`resume_from_checkpoint` continues with it. That module is no `PreTrainedModel` on purpose: of one whose weights were
renamed, as SegFormer's were, the Trainer of transformers 5.24 resumes without the renamed ones and says nothing. Save
the trained network with `model.student.save_pretrained(FOLDER)`.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import (
    SegformerConfig,
    SegformerForSemanticSegmentation,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from blda import BalancedLoss

COLOURS = torch.tensor([[0.2, 0.5, 0.9], [0.5, 0.5, 0.5], [0.9, 0.3, 0.2]])
CLASSES = len(COLOURS)


class Blocks(Dataset):
    """Pairs of a labelled source image and a darker target image, both of coloured blocks, 64 x 64."""

    def __init__(self, count: int, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.randint(0, CLASSES, (2, count, 4, 4), generator=generator)
        labels = coarse.repeat_interleave(16, 2).repeat_interleave(16, 3)
        images = COLOURS[labels].movedim(-1, 2) + 0.05 * torch.randn(2, count, 3, 64, 64, generator=generator)
        self.source, self.labels = images[0], labels[0]
        self.target, self.target_labels = 0.7 * images[1], labels[1]

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {
            "pixel_values": self.source[index],
            "labels": self.labels[index],
            "target_values": self.target[index],
        }


class Adaptation(nn.Module):
    """The student that is trained, its teacher, and the loss."""

    def __init__(self, student: SegformerForSemanticSegmentation, steps: int) -> None:
        super().__init__()
        self.student, self.teacher = student, copy.deepcopy(student).requires_grad_(False)
        self.balanced = BalancedLoss(student.config.num_labels, warmup=steps // 20)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Return the student's logits at the size of the images."""
        return resized(self.student, pixel_values)


class SelfTrainer(Trainer):
    """Trainer of source labels and of a teacher's labels of the target, both with the balanced loss."""

    def compute_loss(self, model, inputs, return_outputs=False, **_):
        """Return the sum of the losses of both domains, of one forward, because DDP wants one for each backward."""
        own: Adaptation = self.accelerator.unwrap_model(model)
        source, labels, target = inputs["pixel_values"], inputs["labels"], inputs["target_values"]
        with torch.no_grad():
            confidence, pseudo = resized(own.teacher.eval(), target).softmax(1).max(1)
            weight = (confidence > 0.9).float().mean((1, 2), keepdim=True).expand_as(confidence)
        of_source, of_target = model(torch.cat((source, target))).chunk(2)
        loss = own.balanced.source_loss(of_source, labels) + own.balanced.target_loss(of_target, pseudo, weight)
        return (loss, {"logits": of_source}) if return_outputs else loss


class MovingAverage(TrainerCallback):
    """The teacher follows the student after every step."""

    def on_step_end(self, args, state, control, model: Adaptation, **_) -> None:
        """Average the parameters, and copy the buffers of norms."""
        keep = min(1 - 1 / (state.global_step + 1), 0.99)
        with torch.no_grad():
            for old, new in zip(model.teacher.parameters(), model.student.parameters(), strict=True):
                old.lerp_(new, 1 - keep)
            for old, new in zip(model.teacher.buffers(), model.student.buffers(), strict=True):
                old.copy_(new)


def resized(network: SegformerForSemanticSegmentation, images: Tensor) -> Tensor:
    """Return logits at the size of the images, as the loss wants them; SegFormer predicts a quarter of it."""
    return F.interpolate(network(images).logits.float(), images.shape[-2:], mode="bilinear")


def network() -> SegformerForSemanticSegmentation:
    """Build a tiny SegFormer from its config."""
    sizes = {"depths": [1] * 4, "hidden_sizes": [16, 16, 32, 32], "num_attention_heads": [1, 1, 2, 2]}
    return SegformerForSemanticSegmentation(SegformerConfig(num_labels=CLASSES, decoder_hidden_size=32, **sizes))


def train(folder: Path, steps: int, save_every: int, until: int | None = None, resume: bool = False) -> Adaptation:
    """Train with a checkpoint at every `save_every` steps; until: stop there as if the job was killed."""
    torch.manual_seed(0)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=until or steps,
        per_device_train_batch_size=4,
        learning_rate=2e-3,
        lr_scheduler_type="constant",
        save_steps=save_every,
        save_total_limit=2,
        remove_unused_columns=False,  # or the target's images are dropped
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
        seed=0,
    )
    model = Adaptation(network(), steps)
    trainer = SelfTrainer(model, arguments, train_dataset=Blocks(64), callbacks=[MovingAverage()])
    trainer.train(resume_from_checkpoint=resume or None)
    return model


@torch.no_grad()
def accuracy(network: SegformerForSemanticSegmentation) -> float:
    """Measure the share of right pixels of target images that training has not seen."""
    network.eval()
    data = Blocks(32, seed=1)
    logits = resized(network, data.target.to(network.device))
    return (logits.argmax(1).cpu() == data.target_labels).float().mean().item()


if __name__ == "__main__":
    trained = train(Path("runs/transformers_trainer"), steps=120, save_every=40)
    print(f"accuracy on the target: {100 * accuracy(trained.student):.1f} %")
