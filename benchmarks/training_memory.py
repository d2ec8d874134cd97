"""Estimate the GPU memory of a training step without a GPU, on tensors that have sizes but no values; prints JSON.

    python benchmarks/training_memory.py CONFIG [VARIANT ...] [key=value ...] [--batch 8 4 2]

Every pass of self-training runs as in training: the teacher on the target, the source, the mixed and the masked batch,
the foundation distance, then AdamW. What counts is the largest sum of the bytes of all live tensors. The GPU's context,
the workspaces of its libraries and the gaps of its allocator come on top, and so do BLDA's statistics, which are small,
and what its loss keeps of the logits. `training.precision` and `training.checkpointing` act as in training. No data and
no weights are read.
"""

from __future__ import annotations

import argparse
import copy
import json
import weakref
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from blda.build.reader_factory import class_names
from blda.config import loading
from blda.config.schema import Config
from blda.data.batches import PseudoLabels
from blda.data.sample import Sample
from blda.engine import optim
from blda.models.activation_checkpointing import checkpoint_activations
from blda.models.feature_tap import FeatureTap
from blda.models.frozen_features import FrozenFeatures, projection
from blda.models.output import Output, logits_of
from blda.selftraining.augmentation import unchanged
from blda.selftraining.criterion import PlainLoss
from blda.selftraining.foundation_distance import SourceFoundationDistance, TargetFoundationDistance
from blda_video.commands.command_line import one_line_errors
from blda_video.jobs import kinds
from synthetic import RandomNetworks


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("config", type=Path, help="YAML file")
    arguments.add_argument("overrides", nargs="*", metavar="key=value", help="or further config files")
    arguments.add_argument("--batch", type=int, nargs="+", help="images of each domain and pass; default: the config's")
    given = arguments.parse_intermixed_args()
    with one_line_errors(str(given.config), *given.overrides):
        kind, _ = kinds.of_run(given.config, given.overrides)
        config = loading.load(given.config, kind, given.overrides)
        batches = given.batch or [config.training.batch]
        print(json.dumps([estimate(config, batch) for batch in batches], indent=1))


def estimate(config: Config, batch: int) -> dict[str, object]:
    """Estimate the memory of a step with a batch of this size; `GiB` is the peak, `weights_GiB` what always stays."""
    with torch.device("meta"):
        networks = RandomNetworks(config)
        student = networks.student()
        teacher = copy.deepcopy(student).requires_grad_(False).eval()
        frozen = networks.frozen("self_training", student, partial(_autocast, config))
    with FakeTensorMode(allow_non_fake_inputs=True), LiveBytes() as live:
        made = [module and module.to_empty(device="cpu") for module in (student, teacher, frozen)]
        step = _Step(config, *made)
        step.run(batch)  # makes the optimizer's state
        stays, live.peak = live.now, live.now
        step.run(batch)
    training = config.training
    return {
        "encoder": config.model.encoder["model" if "model" in config.model.encoder else "name"],
        "parameters_M": round(sum(parameter.numel() for parameter in student.parameters()) / 1e6, 1),
        "batch": batch,
        "crop": config.source.crop,
        "precision": training.precision or "no",
        "checkpointing": training.checkpointing,
        "weights_GiB": round(stays / 2**30, 3),
        "GiB": round(live.peak / 2**30, 3),
    }


class LiveBytes(TorchDispatchMode):
    """Count of the bytes of all storages that operations have made and nothing has freed, and its peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak, self._known = 0, 0, weakref.WeakKeyDictionary()

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        result = function(*arguments, **(keywords or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.device.type != "meta":
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        size = storage.nbytes()
        self._known[storage] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, size)

    def _remove(self, size: int) -> None:
        self.now -= size


class _CrossEntropy(PlainLoss):
    """Plain cross-entropy that does not look at the values of the labels."""

    def source_loss(self, output: Tensor | Output, source: Sample) -> Tensor:
        """Return torch's cross-entropy of float32 logits, a scalar."""
        return F.cross_entropy(logits_of(output).float(), source.label)


class _Step:
    """Networks of a run, and one step of self-training with them."""

    def __init__(self, config: Config, student: nn.Module, teacher: nn.Module, frozen: FrozenFeatures | None) -> None:
        self.config, self.teacher, self.frozen = config, teacher, frozen
        if config.training.checkpointing:
            checkpoint_activations(student)
        head = None if frozen is None else projection(student.encoder.channels[-1], frozen.channels)
        self.tapped = FeatureTap(student, student.encoder, head)
        self.optimizer = optim.adamw(self.tapped, 1e-5, 10.0, 0.01)
        self.criterion = _CrossEntropy()
        if frozen is not None:
            strength = config.foundation_distance.strength
            self.criterion = SourceFoundationDistance(self.criterion, frozen, head, strength)
            self.on_target = TargetFoundationDistance(frozen, strength, unchanged)

    def run(self, batch: int) -> None:
        """Take one step."""
        source = _sample(self.config, batch)
        with torch.no_grad(), _autocast(self.config):
            belief, label = logits_of(self.teacher(source.image)).float().softmax(1).max(1)
        pseudo = PseudoLabels(label, belief)
        del belief, label
        self._learn(source)
        self._learn(source)
        if self.config.self_training.masked is not None:
            self._learn(source)
        if self.frozen is not None:
            with _autocast(self.config):
                loss = self.on_target(self.tapped, source, pseudo, source)
            loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _learn(self, batch: Sample) -> None:
        with _autocast(self.config):
            output = self.tapped(batch.image)
        self.criterion.source_loss(output, batch).backward()


def _sample(config: Config, batch: int) -> Sample:
    size = config.source.crop
    label = torch.randint(len(class_names(config)), (batch, *size))
    return Sample(torch.rand(batch, 3, *size), label, ("",) * batch, tuple(range(batch)))


def _autocast(config: Config) -> AbstractContextManager:
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.training.precision)
    return torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None)


if __name__ == "__main__":
    main()
