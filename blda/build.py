"""From a config to a trainer: the one place of the image core that reads a config."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import Dataset

from blda import rng
from blda.augment import ColourAndBlur
from blda.config import Config, Part
from blda.data.cityscapes import Cityscapes
from blda.data.class_statistics import class_pixels
from blda.data.dataset import EvaluationDataset, SegmentationDataset
from blda.data.folder import FolderReader
from blda.data.frames import Reader
from blda.data.gta5 import GTA5
from blda.data.label_space import CLASS_LISTS, LabelTable, label_table
from blda.data.loader import endless_loader
from blda.data.protocols import PROTOCOLS, Protocol, protocol_of
from blda.data.sample import Sample
from blda.data.sampler import DrawSampler, RareClassSampler
from blda.data.synthia import Synthia
from blda.data.transforms import RandomCrop
from blda.data.viper import Viper
from blda.engine import optim
from blda.engine.evaluate import Evaluator
from blda.engine.log import RunLog
from blda.engine.metrics import MeanIoU, Metric
from blda.engine.trainer import Batches, Method, Plan, Trainer
from blda.labels import TeacherLabels
from blda.losses import BalancedLoss, PlainLoss
from blda.models.daformer import DAFormerHead
from blda.models.deeplab import DeepLabV2Head
from blda.models.mit import MiT
from blda.models.resnet import ResNetEncoder
from blda.models.segmenter import Segmenter
from blda.models.small import SmallEncoder
from blda.models.timm_encoder import TimmEncoder
from blda.parts import Constructors, construct
from blda.selftrain import Labeller, SelfTraining
from blda.spelling import nearest
from blda.statistics import LogitStatistics
from blda.supervised import Supervised
from blda.teacher import Teacher

ENCODERS: Constructors = {"small": SmallEncoder, "mit": MiT, "resnet": ResNetEncoder, "timm": TimmEncoder}
HEADS: Constructors = {"daformer": DAFormerHead, "deeplab_v2": DeepLabV2Head}
METHODS = ("source_only", "self_training", "blda")


class Build:
    """The parts of an image run; a video run overrides the five methods at the end.

    config: of the run. accelerator: of this process.
    """

    readers: ClassVar[Constructors] = {
        "cityscapes": Cityscapes,
        "folder": FolderReader,
        "gta5": GTA5,
        "synthia": Synthia,
        "viper": Viper,
    }

    def __init__(self, config: Config, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        self.classes = _classes(config.classes)
        self.protocols = tuple(map(_protocol, config.evaluation.protocols)) or (self._own_protocol(),)
        for protocol in self.protocols:
            protocol.require(self.classes)

    def prepare(self, methods: Sequence[str]) -> None:
        """Before the first step of the first method: find the mistakes that would stop a later one."""
        for method in methods:
            if method not in METHODS:
                raise ValueError(f"method: unknown '{method}'; {nearest(method, METHODS)}")
        if set(methods) != {"source_only"}:
            self.target_data()
            self.labeller()

    def trainer(self, method: str, folder: Path) -> Trainer:
        """A trainer at step 0 for one of METHODS, keeping its files in `folder`."""
        config, accelerator = self.config, self.accelerator
        student = self.student().to(accelerator.device)
        # The teacher is copied before Accelerate wraps the student's forward.
        teacher = None if method == "source_only" else self.teacher(student)
        settings = config.optimizer
        optimizer = optim.adamw(student, settings.lr, settings.head_factor, settings.weight_decay)
        wrapped, optimizer = accelerator.prepare(student, optimizer)
        batches = self.batches(adapts=teacher is not None)
        log = RunLog(folder, self.classes, accelerator.is_main_process, config.log.bar)
        parts = self.method(method, wrapped, teacher)
        return Trainer(accelerator, parts, student, optimizer, batches, self.evaluator(), log, folder, self.plan())

    def student(self, pretrained: bool = True) -> Segmenter:
        """The network, its initial weights a function of the seed.

        pretrained: False leaves the encoder's own weights out, for a network that a checkpoint fills.
        """
        torch.manual_seed(rng.seed_of(self.config.seed, "student"))
        part = self.config.model.encoder
        if not pretrained:
            part = {key: value for key, value in part.items() if key not in ("weights", "pretrained")}
        encoder = construct("model.encoder", part, ENCODERS)
        fixed = {"channels": encoder.channels, "classes": len(self.classes)}
        head = construct("model.head", self.config.model.head, HEADS, **fixed)
        return Segmenter(encoder, head, encoder.mean, encoder.std)

    def teacher(self, student: nn.Module) -> Teacher:
        """The student's moving average."""
        return Teacher(student, self.config.self_training.momentum, self.accelerator.autocast)

    def method(self, name: str, student: nn.Module, teacher: Teacher | None) -> Method:
        """What is trained for, around the wrapped student."""
        if teacher is None:
            return Supervised(student, PlainLoss())
        settings, seed = self.config.self_training, self.config.seed
        criterion = self.balanced_loss() if name == "blda" else PlainLoss()
        augment = ColourAndBlur(seed, settings.strength, settings.jitter, settings.blur)
        classes = len(self.classes)
        return SelfTraining(student, teacher, self.labeller(), criterion, augment, classes, seed, settings.burn_in)

    def balanced_loss(self) -> BalancedLoss:
        """BLDA with statistics of both domains on the device."""
        source = LogitStatistics(**self.statistics_settings("source"))
        device = self.accelerator.device
        return BalancedLoss(source.to(device), self.target_statistics().to(device), self.config.blda.tau)

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

    def batches(self, adapts: bool) -> Batches:
        """The stream of (source, target) batches from a pass on; no target unless the method adapts."""
        source = self.source_data()
        pixels = self.rare_pixels(source)
        target = self.target_data() if adapts else None
        device = self.accelerator.device

        def stream(start: int) -> Iterator[tuple[Sample, Sample | None]]:
            sources = self._draws(source, "source", start, pixels)
            if target is None:
                for batch in sources:
                    yield batch.to(device), None
            else:
                for batch, unlabelled in zip(sources, self._draws(target, "target", start), strict=True):
                    yield batch.to(device), unlabelled.to(device)

        return stream

    def source_data(self) -> SegmentationDataset:
        """Labelled training crops."""
        data = self.config.source
        reader = self.reader("source.reader", data.reader, labelled=True)
        least = data.rare.min_pixels * data.rare.min_crop_ratio if data.rare else 0
        crop = RandomCrop(data.resize, data.crop, data.flip, data.max_share, least)
        return SegmentationDataset(reader, self.table(reader, data.rename), crop, self.seed("source"))

    def rare_pixels(self, source: SegmentationDataset) -> Any:
        """Class pixels of every source frame, counted once by one process; None unless rare classes are favoured."""
        if self.config.source.rare is None:
            return None
        cache = Path(self.config.run) / "cache"
        with self.accelerator.main_process_first():
            return class_pixels(source.reader, source.table, len(self.classes), cache)

    def reader(self, where: str, part: Part, labelled: bool) -> Reader:
        """A data set; unlabelled ones have no label paths at all."""
        return construct(where, part, self.readers, labelled=labelled)

    def table(self, reader: Reader, rename: Mapping[str, str]) -> LabelTable:
        """Its ids as indices of the run's classes."""
        return label_table(reader.ids, reader.ignored, self.classes, rename)

    def evaluation_table(self, reader: Reader) -> LabelTable:
        """As `table`, with what the first protocol merges where the run lacks the merged class."""
        merged = self.protocols[0].renaming(self.classes, reader.ids.values())
        return self.table(reader, {**merged, **self.config.evaluation.rename})

    def seed(self, stream: str) -> int:
        """The seed of one stream of random numbers."""
        return rng.seed_of(self.config.seed, stream)

    def _draws(self, dataset: Dataset, domain: str, start: int, pixels: Any = None) -> Iterator[Sample]:
        training, accelerator = self.config.training, self.accelerator
        shared = (training.batch, accelerator.process_index, accelerator.num_processes, self.seed(domain), start)
        if pixels is None:
            sampler = DrawSampler(len(dataset), *shared)
        else:
            rare = self.config.source.rare
            sampler = RareClassSampler(pixels, *shared, temperature=rare.temperature, min_pixels=rare.min_pixels)
        return iter(endless_loader(dataset, sampler, training.workers, accelerator.device.type == "cuda"))

    def _own_protocol(self) -> Protocol:
        named = self.config.classes if isinstance(self.config.classes, str) else "all"
        return PROTOCOLS.get(named, protocol_of(self.classes, named))

    # What time replaces:

    def target_data(self) -> Dataset[Sample]:
        """Unlabelled training crops."""
        data = self.config.target
        reader = self.reader("target.reader", data.reader, labelled=False)
        crop = RandomCrop(data.resize, data.crop, data.flip)
        return SegmentationDataset(reader, None, crop, self.seed("target"))

    def labeller(self) -> Labeller:
        """What makes pseudo-labels."""
        settings = self.config.self_training
        return TeacherLabels(settings.threshold, settings.ignore_top, settings.ignore_bottom)

    def target_statistics(self) -> LogitStatistics:
        """Statistics of the target's logits."""
        return LogitStatistics(**self.statistics_settings("target"))

    def evaluation_data(self) -> Dataset[Sample]:
        """Labelled whole images."""
        data = self.config.evaluation
        reader = self.reader("evaluation.reader", data.reader, labelled=True)
        return EvaluationDataset(reader, self.evaluation_table(reader), data.size)

    def metrics(self) -> Sequence[Metric]:
        """What evaluation measures."""
        return [MeanIoU(self.classes, self.protocols)]


def _classes(named: Any) -> tuple[str, ...]:
    if isinstance(named, str):
        if named not in CLASS_LISTS:
            raise ValueError(f"classes: no list '{named}'; {nearest(named, list(CLASS_LISTS))}, or give the names")
        return CLASS_LISTS[named]
    if not isinstance(named, tuple) or not named or not all(isinstance(name, str) for name in named):
        raise ValueError(f"classes must be the name of a list or a list of names, not {named!r}")
    return named


def _protocol(named: Any) -> Protocol:
    if isinstance(named, dict):
        keywords = {key: tuple(value) if isinstance(value, list) else value for key, value in named.items()}
        unknown = sorted(keywords.keys() - inspect.signature(Protocol).parameters.keys())
        if unknown or not {"name", "classes"} <= keywords.keys():
            raise ValueError(f"evaluation.protocols: needs name and classes, does not know {unknown or 'nothing'}")
        return Protocol(**keywords)
    if named not in PROTOCOLS:
        raise ValueError(f"evaluation.protocols: unknown '{named}'; {nearest(str(named), list(PROTOCOLS))}")
    return PROTOCOLS[named]
