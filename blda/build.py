"""From a config to a trainer: the one place of the image core that reads a config."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import Dataset

from blda import rng
from blda.augment import ColourAndBlur
from blda.config import Config, Part
from blda.data.acdc import ACDC
from blda.data.bdd10k import BDD10k
from blda.data.camvid import CamVid
from blda.data.check import Extent, Role, check
from blda.data.cityscapes import Cityscapes
from blda.data.class_statistics import ClassCounts, count_classes
from blda.data.dark_zurich import DarkZurich
from blda.data.dataset import EvaluationDataset, SegmentationDataset
from blda.data.folder import FolderReader
from blda.data.frames import Reader
from blda.data.gta5 import GTA5
from blda.data.label_space import CLASS_LISTS, LabelTable, label_table
from blda.data.loader import endless_loader
from blda.data.protocols import PROTOCOLS, Protocol, protocol_of
from blda.data.report import DataReport, require
from blda.data.sample import Sample
from blda.data.sampler import DrawSampler, RareClassSampler
from blda.data.synthia import Synthia
from blda.data.tolerant import Tolerant
from blda.data.transforms import RandomCrop
from blda.data.viper import Viper
from blda.density import DensityLoss
from blda.engine import optim
from blda.engine.evaluate import Evaluator
from blda.engine.log import RunLog
from blda.engine.metrics import MeanIoU, Metric
from blda.engine.trainer import Batches, Method, Plan, Trainer
from blda.labels import TeacherLabels
from blda.losses import BalancedLoss, Criterion, PlainLoss, ReweightedLoss
from blda.masking import Augment
from blda.mixing import ClassMix
from blda.models.daformer import DAFormerHead
from blda.models.deeplab import DeepLabV2Head
from blda.models.density import DensityRegression
from blda.models.mit import MiT
from blda.models.resnet import ResNetEncoder
from blda.models.segmenter import Segmenter
from blda.models.small import SmallEncoder
from blda.models.timm_encoder import TimmEncoder
from blda.parts import Constructors, construct
from blda.selftrain import Labeller, Mixer, SelfTraining
from blda.spelling import nearest
from blda.statistics import LogitStatistics
from blda.supervised import Supervised
from blda.teacher import Teacher

ENCODERS: Constructors = {"small": SmallEncoder, "mit": MiT, "resnet": ResNetEncoder, "timm": TimmEncoder}
HEADS: Constructors = {"daformer": DAFormerHead, "deeplab_v2": DeepLabV2Head}
METHODS = ("source_only", "self_training", "reweighted", "blda")
AT_START = Extent(opened=4, named=2000)
"""What a run looks at before its first step: seconds."""

_LOG = logging.getLogger(__name__)


class Build:
    """The parts of an image run; a video run overrides the six methods at the end.

    config: of the run. accelerator: of this process.
    """

    readers: ClassVar[Constructors] = {
        "acdc": ACDC,
        "bdd10k": BDD10k,
        "camvid": CamVid,
        "cityscapes": Cityscapes,
        "dark_zurich": DarkZurich,
        "folder": FolderReader,
        "gta5": GTA5,
        "synthia": Synthia,
        "viper": Viper,
    }

    heads: ClassVar[Constructors] = HEADS
    network: ClassVar[Callable[..., nn.Module]] = Segmenter

    def __init__(self, config: Config, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        self._readers: dict[tuple[str, bool], Reader] = {}
        self._tolerant: list[Tolerant] = []
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
            self.labeller()
        for report in self.examine(methods, AT_START):
            require(report)

    def examine(self, methods: Sequence[str], extent: Extent, statistics: bool = False) -> Iterator[DataReport]:
        """Checks of the data sets that these methods need, one after the other.

        statistics: count the class pixels of rare-class sampling, where the run has it, and keep them for training.
        """
        tolerant, rare = self.config.data.on_error == "skip", self.config.source.rare
        counted = {}
        if statistics and rare:
            counted = {"count": partial(self.class_counts, tolerant=True), "min_pixels": rare.min_pixels}
        learnt, scored = {"the run": self.classes}, {f"protocol {p.name}": p.classes for p in self.protocols}
        yield self.check(Role("source", self.source_data, self.classes, learnt, tolerant, **counted), extent)
        if set(methods) != {"source_only"}:
            yield self.check(Role("target", self.target_data, self.classes, tolerant=tolerant), extent)
        yield self.check(Role("evaluation", self.evaluation_data, self.classes, scored), extent)

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
        part = self.config.model.encoder
        if not pretrained:
            part = {key: value for key, value in part.items() if key not in ("weights", "pretrained")}
        encoder = construct("model.encoder", part, ENCODERS)
        fixed = {"channels": encoder.channels, "classes": len(self.classes)}
        head = construct("model.head", self.config.model.head, self.heads, **fixed)
        return self.network(encoder, head, encoder.mean, encoder.std)

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
            with self.accelerator.main_process_first():
                frequency = torch.from_numpy(self.class_counts(self.source_data()).pixels.sum(0))
            return ReweightedLoss(frequency.to(self.accelerator.device), self.config.reweighting.power)
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
        return SegmentationDataset(reader, self.table(reader, data.rename), crop, self.seed("source"), in_bytes=True)

    def rare_pixels(self, source: SegmentationDataset) -> Any:
        """Class pixels of every source frame, counted once by one process; None unless rare classes are favoured."""
        if self.config.source.rare is None:
            return None
        with self.accelerator.main_process_first():
            counts = self.class_counts(source)
        if counts.unusable and self.accelerator.is_main_process:
            first = next(iter(counts.unusable.values()))
            _LOG.warning("rare-class sampling leaves out %d frames, the first: %s", len(counts.unusable), first)
        return counts.pixels

    def class_counts(self, source: SegmentationDataset, tolerant: bool | None = None) -> ClassCounts:
        """Class pixels of every source frame, from the run's cache if they are there.

        tolerant: go past labels that cannot be used; None does what the config says of errors.
        """
        cache = self.config.data.cache or Path(self.config.run) / "cache"
        tolerant = self.config.data.on_error == "skip" if tolerant is None else tolerant
        return count_classes(source.reader, source.table, len(self.classes), cache, tolerant=tolerant)

    def skipped(self) -> dict[str, int]:
        """Frames that this process's data sets replaced because they could not be used; none unless that is allowed."""
        if self.config.data.on_error == "stop":
            return {}
        return {"data/skipped": sum(dataset.replaced() for dataset in self._tolerant)}

    def reader(self, where: str, part: Part, labelled: bool) -> Reader:
        """A data set, looked through once; unlabelled ones have no label paths at all."""
        if (where, labelled) not in self._readers:
            self._readers[where, labelled] = construct(where, part, self.readers, labelled=labelled)
        return self._readers[where, labelled]

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
        if self.config.data.on_error == "skip":
            dataset = Tolerant(dataset, sampler)
            self._tolerant.append(dataset)
        return iter(endless_loader(dataset, sampler, training.workers, accelerator.device.type == "cuda"))

    def _own_protocol(self) -> Protocol:
        named = self.config.classes if isinstance(self.config.classes, str) else "all"
        return PROTOCOLS.get(named, protocol_of(self.classes, named))

    # What time, or a classifier, replaces:

    def check(self, role: Role, extent: Extent) -> DataReport:
        """A check of one data set."""
        return check(role, extent)

    def target_data(self) -> Dataset[Sample]:
        """Unlabelled training crops."""
        data = self.config.target
        reader = self.reader("target.reader", data.reader, labelled=False)
        crop = RandomCrop(data.resize, data.crop, data.flip)
        return SegmentationDataset(reader, None, crop, self.seed("target"), in_bytes=True)

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
