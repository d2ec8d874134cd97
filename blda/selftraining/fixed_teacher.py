"""The teacher of a distillation: a trained network that labels the target and never changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class FixedTeacher:
    """Trained network of any architecture, in the place of the student's moving average (`Teacher`).

    A checkpoint holds which network it was, and not its weights: a run continues with the same one or not at all.

    predict: images (B, 3, H, W) in [0, 1] -> logits or scores (B, C, H, W) float32, without gradient.
    origin: file of its weights, for messages. digest: of all files that it was read from.
    """

    def __init__(self, predict: Callable[[Tensor], Tensor], origin: str, digest: str) -> None:
        self.predict, self.origin, self.digest = predict, origin, digest
        self.updates = 0

    def __call__(self, image: Tensor) -> Tensor:
        """Predict the classes of the student's run; see `predict`."""
        return self.predict(image)

    def update(self, student: nn.Module) -> None:
        """Count a step of the student; the teacher stays as it is."""
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps, and which network this is."""
        return {"updates": torch.tensor(self.updates), "origin": self.origin, "digest": self.digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the number of steps; ValueError if another network labelled the run before."""
        if "digest" not in state:
            raise ValueError("the teacher was the student's moving average; set self_training.teacher=null")
        if state["digest"] != self.digest:
            raise ValueError(
                f"{self.origin} (digest {self.digest[:8]}) is not the teacher of this run, which was {state['origin']} "
                f"(digest {state['digest'][:8]}); put that back, or start anew with run=ANOTHER_FOLDER"
            )
        self.updates = int(state["updates"])
