"""From a config to a trainer; with build_data.py and build_network.py the only readers of a config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from blda import rng
from blda.augment import ColourAndBlur
from blda.build_data import DataBuild
from blda.build_network import HEADS, network
from blda.data.check import Extent
from blda.data.report import require
from blda.density import DensityLoss
from blda.engine import optim
from blda.engine.evaluate import Evaluator
from blda.engine.log import RunLog
from blda.engine.metrics import MeanIoU, Metric
from blda.engine.trainer import Method, Plan, Trainer
from blda.labels import TeacherLabels
from blda.losses import BalancedLoss, Criterion, PlainLoss, ReweightedLoss
from blda.masking import Augment
from blda.mixing import ClassMix
from blda.models.density import DensityRegression
from blda.models.segmenter import Segmenter
from blda.parts import Constructors
from blda.selftrain import Labeller, Mixer, SelfTraining
from blda.spelling import nearest
from blda.statistics import LogitStatistics
from blda.supervised import Supervised
from blda.teacher import Teacher

METHODS = ("source_only", "self_training", "reweighted", "blda")
AT_START = Extent(opened=4, named=2000)
"""What a run looks at before its first step: seconds."""


class Build(DataBuild):
    """The parts of an image run; a video run overrides the methods at the end."""

    heads: ClassVar[Constructors] = HEADS
    kind: ClassVar[Callable[..., nn.Module]] = Segmenter

    def prepare(self, methods: Sequence[str]) -> None:
        """Before the first step of the first method: find the mistakes that would stop a later one."""
        for method in methods:
            if method not in METHODS:
                raise ValueError(f"method: unknown '{method}'; {nearest(method, METHODS)}")
        if set(methods) != {"source_only"}:
            self.labeller()
        for report in self.examine(methods, AT_START):
            require(report)

    def trainer(self, method: str, folder: Path) -> Trainer:
        """A trainer at step 0 for one of METHODS, keeping its files in `folder`."""
        config, accelerator = self.config, self.accelerator
        student = self.student().to(accelerator.device)
        # The teacher is copied before Accelerate wraps the student's forward.
        teacher = None if method == "source_only" else self.teacher(student)
        settings = config.optimizer
        trained = self.trained(method, student).to(accelerator.device)
        optimizer = optim.adamw(trained, settings.lr, settings.head_factor, settings.weight_decay)
        criterion = self.criterion(method, trained)
        wrapped, optimizer = accelerator.prepare(trained, optimizer)
        batches = self.batches(adapts=teacher is not None)
        log = RunLog(folder, self.classes, accelerator.is_main_process, config.log.bar, self.protocols[0].name)
        parts = self.method(method, wrapped, teacher, criterion)
        measure, plan = self.evaluator(), self.plan()
        return Trainer(accelerator, parts, student, optimizer, batches, measure, log, folder, plan, self.skipped)

    def student(self, pretrained: bool = True) -> nn.Module:
        """The network, its initial weights a function of the seed.

        pretrained: False leaves the encoder's own weights out, for a network that a checkpoint fills.
        """
        torch.manual_seed(rng.seed_of(self.config.seed, "student"))
        return network(self.config.model, len(self.classes), pretrained, self.heads, self.kind)

    def teacher(self, student: nn.Module) -> Teacher:
        """The student's moving average."""
        return Teacher(student, self.config.self_training.momentum, self.accelerator.autocast)

    def trained(self, method: str, student: nn.Module) -> nn.Module:
        """What is trained of one of METHODS: the student, or the student with a head that only training has."""
        regresses = method == "blda" and self.config.blda.density is not None
        return DensityRegression(student) if regresses else student

    def criterion(self, method: str, trained: nn.Module) -> Criterion:
        """What a labelled batch costs in one of METHODS."""
        if method == "reweighted":
            return ReweightedLoss(self.frequency(), self.config.reweighting.power)
        if method != "blda":
            return PlainLoss()
        density, balanced = self.config.blda.density, self.balanced_loss()
        return balanced if density is None else DensityLoss(balanced, trained.head, density.strength, density.power)

    def method(self, name: str, student: nn.Module, teacher: Teacher | None, criterion: Criterion) -> Method:
        """What is trained for, around the wrapped student; all of METHODS but the first are one in kind."""
        if teacher is None:
            return Supervised(student, criterion)
        settings, seed = self.config.self_training, self.config.seed
        parts = (student, teacher, self.labeller(), criterion, self.augment())
        return SelfTraining(*parts, len(self.classes), seed, settings.burn_in, self.mixer())

    def balanced_loss(self) -> BalancedLoss:
        """BLDA with statistics of both domains on the device."""
        blda, device = self.config.blda, self.accelerator.device
        statistics = (self.source_statistics().to(device), self.target_statistics().to(device))
        return BalancedLoss(*statistics, blda.tau, blda.correct_target)

    def statistics_settings(self, domain: str) -> dict[str, Any]:
        """Keywords of `LogitStatistics`."""
        blda = self.config.blda
        return {
            "classes": len(self.classes),
            "components": blda.components,
            "momentum": blda.momentum,
            "warmup": blda.warmup,
            "min_pixels": blda.min_pixels,
            "seed": rng.seed_of(self.config.seed, domain),
        }

    def plan(self) -> Plan:
        """When things happen."""
        config, training = self.config, self.config.training
        return Plan(
            steps=training.steps,
            warmup=config.optimizer.warmup,
            accumulate=training.accumulate,
            clip=config.optimizer.clip,
            evaluate_every=config.evaluation.every,
            checkpoint_every=training.checkpoint_every,
            log_every=config.log.every,
            pictures_every=config.log.pictures,
            keep=training.keep,
            seed=config.seed,
        )

    def evaluator(self) -> Evaluator:
        """Evaluation of this process's share."""
        config = self.config
        return Evaluator(
            self.evaluation_data(), self.metrics, self.accelerator, config.training.workers, config.log.bar
        )

    # What time, or a classifier, replaces:

    def labeller(self) -> Labeller:
        """What makes pseudo-labels."""
        settings = self.config.self_training
        return TeacherLabels(settings.threshold, settings.ignore_top, settings.ignore_bottom)

    def augment(self) -> Augment:
        """What is done to the image of the second loss."""
        settings = self.config.self_training
        return ColourAndBlur(self.config.seed, settings.strength, settings.jitter, settings.blur)

    def mixer(self) -> Mixer:
        """What makes of a source and a target batch the images of the second loss."""
        return ClassMix(len(self.classes), self.config.seed)

    def source_statistics(self) -> LogitStatistics:
        """Statistics of the source's logits."""
        return LogitStatistics(**self.statistics_settings("source"))

    def target_statistics(self) -> LogitStatistics:
        """Statistics of the target's logits."""
        return LogitStatistics(**self.statistics_settings("target"))

    def metrics(self) -> Sequence[Metric]:
        """What evaluation measures."""
        return [MeanIoU(self.classes, self.protocols)]
