"""Run: factories that share a config, and the trainer that they build together."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from blda.balance.diagnostics import StatisticsDiagnostics
from blda.build import tracker_factory
from blda.build.adaptation_factory import METHODS, AdaptationFactory
from blda.build.batch_stream import BatchStream
from blda.build.data_examination import examine
from blda.build.data_factory import DataFactory
from blda.build.distillation import fixed_teacher, warnings_of_teacher
from blda.build.evaluation_factory import EvaluationFactory
from blda.build.loss_factory import LossFactory
from blda.build.network_factory import NetworkFactory
from blda.build.patch_warnings import patch_warnings
from blda.build.schedule_warnings import schedule_warnings
from blda.config.schema import Config
from blda.data.checks.data_report import require, warnings_of
from blda.data.checks.dataset_check import CheckScope
from blda.data.file_handles import require_handles
from blda.data.protocols import Protocol
from blda.engine import optim, runtime
from blda.engine.run_log import RunLog
from blda.engine.trainer import Plan, Trainer
from blda.models.activation_checkpointing import checkpoint_activations
from blda.models.cuda_graphs import GraphedTraining, graph_inference
from blda.models.feature_tap import FeatureTap
from blda.models.frozen_features import FrozenFeatures, projection
from blda.models.layer_decay import layer_factors
from blda.selftraining.criterion import Criterion
from blda.selftraining.fixed_teacher import FixedTeacher
from blda.selftraining.teacher import Teacher
from blda.spelling import nearest

_LOG = logging.getLogger(__name__)
NO_DECAY: Mapping[str, optim.Exempt] = {"norms": optim.is_norm, "encoder_layer_norms": optim.is_encoder_layer_norm}
AT_START = CheckScope(opened=4, named=2000)
"""The scope of the check before the first step: seconds."""


@dataclass
class Run:
    """Factories of one config, which build its trainers. Runs of images, clips and classifiers hold different ones.

    data: data sets. batches: the stream of training batches. networks: student and teacher. losses: criteria and
    statistics. adaptation: the training method. evaluation: predictors and metrics.
    """

    config: Config
    accelerator: Accelerator
    data: DataFactory
    batches: BatchStream
    networks: NetworkFactory
    losses: LossFactory
    adaptation: AdaptationFactory
    evaluation: EvaluationFactory

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the run's classes, in order."""
        return self.data.readers.class_names

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """Evaluation protocols; the first one's scores are also given without its name."""
        return self.data.readers.protocols

    def prepare(self, methods: Sequence[str]) -> None:
        """Check for mistakes that would stop or spoil any of the methods, before the first step of the first one."""
        self.make_data()
        require_handles(self.config.training.workers)
        for method in methods:
            if method not in METHODS:
                raise ValueError(f"method: unknown '{method}'; {nearest(method, METHODS)}")
        if set(methods) != {"source_only"}:
            self.adaptation.pseudo_labeler(self.config)
            self.adaptation.mixer(self.config)
            self.losses.things()
            self.networks.require_pretrained()
            self.losses.class_factors()
            if self.config.self_training.teacher is not None:
                self._warn(warnings_of_teacher(self.config), "warning: ")
        self._warn(schedule_warnings(self.config, methods), "warning: ")
        for report in examine(self.data, methods, AT_START):
            require(report)
            self._warn(warnings_of(report))

    def make_data(self) -> None:
        """Generate, in one process, the data that the config describes, such as street worlds."""
        with self.accelerator.main_process_first():
            self.data.make()

    def trainer(self, method: str, folder: Path) -> Trainer:
        """Build a trainer at step 0 for one of METHODS; its files are in `folder`."""
        config, accelerator = self.config, self.accelerator
        runtime.set_deterministic(config.training.deterministic)
        if config.training.cuda_graphs:
            _require_graphs(config, accelerator)
        student = self._student()
        pretrained = self.losses.pretrained_encoder(method, student)
        frozen = self.networks.frozen(method, student, accelerator.autocast)
        self.networks.start(student)
        if config.training.channels_last:
            student.to(memory_format=torch.channels_last)
        # The teacher is copied before Accelerate wraps the student's forward.
        teacher = None if method == "source_only" else self.teacher(student)
        if config.training.checkpointing:
            checkpoint_activations(student)
        trained = self.networks.trained(method, student).to(accelerator.device)
        statistics = self.losses.statistics(method)
        criterion = self.losses.criterion(method, trained, statistics)
        if pretrained is not None or frozen is not None:
            trained, criterion = self._with_distances(trained, student, criterion, pretrained, frozen)
        optimizer = self.optimizer(trained, student)
        wrapped, optimizer = accelerator.prepare(trained, optimizer)
        if config.training.compile:
            # Around all, so that the student itself keeps its names, and evaluates other sizes as it is.
            wrapped = torch.compile(wrapped)
        if config.training.cuda_graphs:
            wrapped = GraphedTraining(wrapped)
            for fixed in (teacher, pretrained, frozen):
                if isinstance(fixed, nn.Module):
                    graph_inference(fixed)
        batches = self.batches.batches(adapts=teacher is not None)
        log = self.log(method, folder)
        diagnostics = None if statistics is None else StatisticsDiagnostics(*statistics, self.class_names)
        trained_by = self.adaptation.method(wrapped, teacher, criterion, diagnostics, student.mean, frozen)
        measure, predict = self.evaluation.evaluator(), self.evaluation.predictor(student)
        how = (batches, measure, log, folder, self.plan(), self.batches.skipped, predict)
        return Trainer(accelerator, trained_by, student, optimizer, *how)

    def teacher(self, student: nn.Module) -> Teacher | FixedTeacher:
        """Build what labels the target: the moving average of a new student, or the config's trained network."""
        device, autocast = self.accelerator.device, self.accelerator.autocast
        if self.config.self_training.teacher is not None:
            return fixed_teacher(self.config, device, autocast)
        return self.networks.teacher(student, autocast)

    def _student(self) -> nn.Module:
        """Build the network on the device, and warn about images that its encoder has to resize."""
        student = self.networks.student()
        self._warn(patch_warnings(self.config, getattr(student.encoder, "patch", None)), "warning: ")
        return student.to(self.accelerator.device)

    def _with_distances(
        self,
        trained: nn.Module,
        student: nn.Module,
        criterion: Criterion,
        pretrained: nn.Module | None,
        frozen: FrozenFeatures | None,
    ) -> tuple[FeatureTap, Criterion]:
        """Add to a criterion the distances to frozen features, and to the trained module the outputs they need."""
        head = None
        if pretrained is not None:
            criterion = self.losses.with_feature_distance(criterion, pretrained)
        if frozen is not None:
            head = projection(student.encoder.channels[-1], frozen.channels).to(self.accelerator.device)
            criterion = self.losses.with_foundation_distance(criterion, frozen, head)
        return FeatureTap(trained, student.encoder, head), criterion

    def log(self, method: str, folder: Path) -> RunLog:
        """Build the log of a method's run; only the main process has trackers."""
        main, protocol = self.accelerator.is_main_process, self.protocols[0].name
        shown = tracker_factory.trackers(self.config, folder, method, protocol) if main else ()
        return RunLog(folder, self.class_names, main, self.config.log.bar, protocol, shown)

    def optimizer(self, trained: nn.Module, student: nn.Module) -> Optimizer:
        """Build AdamW over all trained parameters; student: the network in `trained` whose encoder's rates decay."""
        settings = self.config.optimizer
        exempt, factors = NO_DECAY[settings.no_decay], {}
        if settings.layer_decay != 1:
            factors = layer_factors(student.encoder, settings.layer_decay, _is_encoder_head)
        return optim.adamw(trained, settings.lr, settings.head_factor, settings.weight_decay, exempt, factors)

    def plan(self) -> Plan:
        """Build the schedule of the run."""
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

    def _warn(self, texts: Sequence[str], before: str = "") -> None:
        """Log lines in the main process."""
        for text in texts if self.accelerator.is_main_process else ():
            _LOG.warning("%s%s", before, text)


def _is_encoder_head(name: str) -> bool:
    """Return whether a child of an encoder starts at random on top of pretrained weights."""
    return optim.in_head(f"encoder.{name}")


def _require_graphs(config: Config, accelerator: Accelerator) -> None:
    """Raise ValueError if the passes cannot be captured as CUDA graphs."""
    training = config.training
    reasons = {
        f"the device is {accelerator.device.type}": accelerator.device.type != "cuda",
        f"there are {accelerator.num_processes} processes": accelerator.num_processes > 1,
        "model.hrda draws its windows on the host": config.model.hrda is not None,
        "training.compile is on": training.compile,
        "training.checkpointing is on": training.checkpointing,
    }
    for reason, applies in reasons.items():
        if applies:
            raise ValueError(f"training.cuda_graphs: {reason}; set it to false")
