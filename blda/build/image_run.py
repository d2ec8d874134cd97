"""From a config to a trainer; with the other build_*.py the only readers of a config."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from blda.balance.diagnostics import StatisticsDiagnostics
from blda.build.loss_factory import LossBuild
from blda.build.network_factory import HEADS, network
from blda.config.components import Constructors
from blda.data import seeding
from blda.data.checks.data_report import require, warnings_of
from blda.data.checks.dataset_check import CheckScope
from blda.data.file_handles import require_handles
from blda.engine import checkpoint, optim, runtime
from blda.engine.evaluator import Evaluator
from blda.engine.inference import Predictor
from blda.engine.metrics import MeanIoU, Metric
from blda.engine.run_log import RunLog
from blda.engine.trainer import Method, Plan, Trainer
from blda.models.activation_checkpointing import checkpoint_activations
from blda.models.cuda_graphs import GraphedTraining, graph_inference
from blda.models.feature_tap import FeatureTap
from blda.models.segmenter import Segmenter
from blda.models.test_time_augmentation import Flipped, Sliding
from blda.selftraining.augmentation import ColourAndBlur, PublishedColourAndBlur, unchanged
from blda.selftraining.criterion import Criterion, PlainLoss
from blda.selftraining.masked_consistency import MaskedConsistency
from blda.selftraining.masking import Augment, BlockMask
from blda.selftraining.mixing import ClassMix, chosen_classes, chosen_classes_of_batch
from blda.selftraining.pseudo_labels import TeacherLabels
from blda.selftraining.self_training import Diagnostics, Mixer, PseudoLabeler, SelfTraining
from blda.selftraining.supervised import Supervised
from blda.selftraining.teacher import Teacher
from blda.spelling import nearest

_LOG = logging.getLogger(__name__)
NO_DECAY: Mapping[str, optim.Exempt] = {"norms": optim.is_norm, "encoder_layer_norms": optim.is_encoder_layer_norm}
METHODS = ("source_only", "self_training", "reweighted", "blda")
AT_START = CheckScope(opened=4, named=2000)
"""What a run looks at before its first step: seconds."""


class Build(LossBuild):
    """The parts of an image run; a video run overrides the methods at the end."""

    heads: ClassVar[Constructors] = HEADS
    kind: ClassVar[Callable[..., nn.Module]] = Segmenter

    def prepare(self, methods: Sequence[str]) -> None:
        """Before the first step of the first method: find the mistakes that would stop a later one."""
        require_handles(self.config.training.workers)
        for method in methods:
            if method not in METHODS:
                raise ValueError(f"method: unknown '{method}'; {nearest(method, METHODS)}")
        if set(methods) != {"source_only"}:
            self.pseudo_labeler()
            self.things()
        for report in self.examine(methods, AT_START):
            require(report)
            if self.accelerator.is_main_process:
                for text in warnings_of(report):
                    _LOG.warning("%s", text)

    def trainer(self, method: str, folder: Path) -> Trainer:
        """A trainer at step 0 for one of METHODS, keeping its files in `folder`."""
        config, accelerator = self.config, self.accelerator
        if config.training.deterministic:
            runtime.set_deterministic(True)
        if config.training.cuda_graphs:
            self.require_graphs()
        student = self.student().to(accelerator.device)
        pretrained = self.pretrained_encoder(method, student)
        self.start(student)
        if config.training.channels_last:
            student.to(memory_format=torch.channels_last)
        # The teacher is copied before Accelerate wraps the student's forward.
        teacher = None if method == "source_only" else self.teacher(student)
        if config.training.checkpointing:
            checkpoint_activations(student)
        trained = self.trained(method, student).to(accelerator.device)
        optimizer = self.optimizer(trained)
        statistics = self.statistics(method)
        criterion = self.criterion(method, trained, statistics)
        if pretrained is not None:
            trained = FeatureTap(trained, student.encoder)
            criterion = self.with_feature_distance(criterion, pretrained)
        wrapped, optimizer = accelerator.prepare(trained, optimizer)
        if config.training.compile:
            # Around all, so that the student itself keeps its names, and evaluates other sizes as it is.
            wrapped = torch.compile(wrapped)
        if config.training.cuda_graphs:
            wrapped = GraphedTraining(wrapped)
            for fixed in filter(None, (teacher, pretrained)):
                graph_inference(fixed)
        batches = self.batches(adapts=teacher is not None)
        log = RunLog(folder, self.classes, accelerator.is_main_process, config.log.bar, self.protocols[0].name)
        diagnostics = None if statistics is None else StatisticsDiagnostics(*statistics, self.classes)
        parts = self.method(method, wrapped, teacher, criterion, diagnostics)
        measure, plan = self.evaluator(), self.plan()
        predict = self.predictor(student)
        return Trainer(
            accelerator, parts, student, optimizer, batches, measure, log, folder, plan, self.skipped, predict
        )

    def require_graphs(self) -> None:
        """ValueError where passes cannot be captured as CUDA graphs."""
        training, accelerator = self.config.training, self.accelerator
        reasons = {
            f"the device is {accelerator.device.type}": accelerator.device.type != "cuda",
            f"there are {accelerator.num_processes} processes": accelerator.num_processes > 1,
            "model.hrda draws its windows on the host": self.config.model.hrda is not None,
            "training.compile is on": training.compile,
            "training.checkpointing is on": training.checkpointing,
        }
        for reason, applies in reasons.items():
            if applies:
                raise ValueError(f"training.cuda_graphs: {reason}; set it to false")

    def student(self, pretrained: bool = True) -> nn.Module:
        """The network, its initial weights a function of the seed.

        pretrained: False leaves the encoder's own weights out, for a network that a checkpoint fills.
        """
        torch.manual_seed(seeding.seed_of(self.config.seed, "student"))
        crop = self.config.source.crop
        return network(self.config.model, len(self.classes), pretrained, self.heads, self.kind, crop)

    def start(self, student: nn.Module) -> None:
        """Fill a new student with the network that the config says training starts from, if any."""
        if self.config.model.weights is not None:
            path = Path(self.config.model.weights)
            checkpoint.restore(path, checkpoint.read(path), {"student": student})

    def teacher(self, student: nn.Module) -> Teacher:
        """The student's moving average."""
        return Teacher(student, self.config.self_training.momentum, self.accelerator.autocast)

    def method(
        self,
        name: str,
        student: nn.Module,
        teacher: Teacher | None,
        criterion: Criterion,
        diagnostics: Diagnostics | None = None,
    ) -> Method:
        """What is trained for, around the wrapped student; all of METHODS but the first are one in kind."""
        if teacher is None:
            return Supervised(student, criterion)
        settings, seed = self.config.self_training, self.config.seed
        parts = (student, teacher, self.pseudo_labeler(), criterion, self.augment())
        masked = self.masked(teacher.model.mean)
        return SelfTraining(*parts, len(self.classes), seed, settings.burn_in, self.mixer(), masked, diagnostics)

    def optimizer(self, trained: nn.Module) -> Optimizer:
        """AdamW over all that is trained."""
        settings = self.config.optimizer
        exempt = NO_DECAY[settings.no_decay]
        return optim.adamw(trained, settings.lr, settings.head_factor, settings.weight_decay, exempt)

    def masked(self, mean: Tensor) -> MaskedConsistency | None:
        """The loss of masked target images, if there is one; mean: what the network subtracts, for hidden blocks."""
        settings, seed = self.config.self_training, seeding.seed_of(self.config.seed, "masked")
        if settings.masked is None:
            return None
        blocks = (settings.masked.block, settings.masked.ratio)
        before = self.jitter(seed, together=True) if settings.masked.jitter else unchanged
        mask = BlockMask(before, seed, *blocks, mean.flatten().unbind())
        return MaskedConsistency(mask, self.with_detail(PlainLoss(), PlainLoss()), settings.masked.domains == "both")

    def jitter(self, seed: int, together: bool = False) -> Augment:
        """Colour jitter and blur; together: see `PublishedColourAndBlur`."""
        settings = self.config.self_training
        strengths = (settings.strength, settings.jitter, settings.blur)
        if settings.augment == "per_image":
            return ColourAndBlur(seed, *strengths)
        batch = self.config.training.batch * self.accelerator.num_processes
        return PublishedColourAndBlur(seed, batch, *strengths, together)

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

    def predictor(self, model: nn.Module, calibration: Callable[[Tensor], Tensor] | None = None) -> Predictor:
        """How this run predicts whole images with a network: at once, or in windows, mirrored too, calibrated."""
        data = self.config.evaluation
        if data.window is not None:
            stride = data.stride or tuple((side + 1) // 2 for side in data.window)
            model = Sliding(model, data.window, stride, data.window_batch)
        return Predictor(Flipped(model) if data.flip else model, self.accelerator.autocast, calibration)

    def evaluator(self) -> Evaluator:
        """Evaluation of this process's share."""
        config = self.config
        return Evaluator(
            self.evaluation_data(), self.metrics, self.accelerator, config.training.workers, config.log.bar
        )

    # What time, or a classifier, replaces:

    def pseudo_labeler(self) -> PseudoLabeler:
        """What makes pseudo-labels."""
        settings = self.config.self_training
        keep_probabilities = self.config.blda.by_belief and self.balances
        return TeacherLabels(settings.threshold, settings.ignore_top, settings.ignore_bottom, keep_probabilities)

    def augment(self) -> Augment:
        """What is done to the image of the second loss."""
        return self.jitter(self.config.seed)

    def mixer(self) -> Mixer:
        """What makes of a source and a target batch the images of the second loss."""
        published = self.config.self_training.classmix == "per_batch"
        choose = chosen_classes_of_batch if published else chosen_classes
        return ClassMix(len(self.classes), self.config.seed, choose)

    def metrics(self) -> Sequence[Metric]:
        """What evaluation measures."""
        return [MeanIoU(self.classes, self.protocols)]
