"""Self-training with the balanced loss in the Trainer of transformers.

    pip install transformers
    python examples/transformers_trainer.py

A tiny SegFormer starts from a config, so nothing is downloaded; start yours with
`SegformerForSemanticSegmentation.from_pretrained(NAME)`. A row of the data set has a source image, its labels and a
target image. The loss and the teacher are submodules of the model, so checkpoints of the Trainer hold their state, and
`resume_from_checkpoint` continues with it. `SegformerForSemanticSegmentation.from_pretrained(FOLDER)` loads the network
of a checkpoint without them.
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


class SelfTrainer(Trainer):
    """Trainer of source labels and of a teacher's labels of the target, both with the balanced loss."""

    loss_is_scaled_for_ga = False  # the loss is a mean, which the Trainer divides by the steps that it accumulates

    def compute_loss(self, model, inputs, return_outputs=False, **_):
        """Return the sum of the losses of both domains, of one forward, because DDP wants one for each backward."""
        own = self.accelerator.unwrap_model(model)
        source, labels, target = inputs["pixel_values"], inputs["labels"], inputs["target_values"]
        with torch.no_grad():
            own.teacher.eval()
            confidence, pseudo = resized(own.teacher(target).logits, labels).softmax(1).max(1)
            weight = (confidence > 0.9).float().mean((1, 2), keepdim=True).expand_as(confidence)
        outputs = model(torch.cat((source, target)))
        of_source, of_target = resized(outputs.logits, labels).chunk(2)
        loss = own.balanced.source_loss(of_source, labels) + own.balanced.target_loss(of_target, pseudo, weight)
        return (loss, outputs) if return_outputs else loss


class MovingAverage(TrainerCallback):
    """The teacher follows the student after every step."""

    def on_step_end(self, args, state, control, model: nn.Module, **_) -> None:
        """Average the parameters, and copy the buffers of norms."""
        keep = min(1 - 1 / (state.global_step + 1), 0.99)
        student = dict(model.named_parameters()) | dict(model.named_buffers())
        with torch.no_grad():
            for name, value in model.teacher.named_parameters():
                value.lerp_(student[name], 1 - keep)
            for name, value in model.teacher.named_buffers():
                value.copy_(student[name])


def resized(logits: Tensor, labels: Tensor) -> Tensor:
    """SegFormer predicts a quarter of the size; the loss wants logits of the labels' size."""
    return F.interpolate(logits.float(), labels.shape[-2:], mode="bilinear")


def model_of(steps: int) -> SegformerForSemanticSegmentation:
    """Build the network, with its teacher and its loss as submodules."""
    sizes = {"depths": [1] * 4, "hidden_sizes": [16, 16, 32, 32], "num_attention_heads": [1, 1, 2, 2]}
    model = SegformerForSemanticSegmentation(SegformerConfig(num_labels=CLASSES, decoder_hidden_size=32, **sizes))
    teacher = copy.deepcopy(model).requires_grad_(False)
    model.teacher, model.balanced = teacher, BalancedLoss(CLASSES, warmup=steps // 27)
    return model


def train(
    folder: Path, steps: int, save_every: int = 40, until: int | None = None, resume: bool = False
) -> SegformerForSemanticSegmentation:
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
    model = model_of(steps)
    trainer = SelfTrainer(model, arguments, train_dataset=Blocks(64), callbacks=[MovingAverage()])
    trainer.train(resume_from_checkpoint=resume or None)
    return model


@torch.no_grad()
def accuracy(model: SegformerForSemanticSegmentation) -> float:
    """Measure the share of right pixels of target images that training has not seen."""
    model.eval()
    data = Blocks(32, seed=1)
    images = data.target.to(model.device)
    logits = resized(model(images).logits, data.target_labels)
    return (logits.argmax(1).cpu() == data.target_labels).float().mean().item()


if __name__ == "__main__":
    trained = train(Path("runs/transformers_trainer"), 120)
    print(f"accuracy on the target: {100 * accuracy(trained):.1f} %")
