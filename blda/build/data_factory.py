"""The data of a run from its config: readers, tables, training crops, evaluation images."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch.utils.data import Dataset

from blda.config.components import Constructors, construct
from blda.config.schema import Component, Config
from blda.data import seeding
from blda.data.checks.data_report import DataReport
from blda.data.checks.dataset_check import CheckScope, CheckTarget, check
from blda.data.class_statistics import ClassCounts, count_classes
from blda.data.distortion import PhotoMetricDistortion
from blda.data.label_map import CLASS_LISTS, LabelLookup, label_lookup
from blda.data.loader import endless_loader
from blda.data.protocols import PROTOCOLS, Protocol, protocol_of
from blda.data.readers.acdc import ACDC
from blda.data.readers.bdd10k import BDD10k
from blda.data.readers.camvid import CamVid
from blda.data.readers.cityscapes import Cityscapes
from blda.data.readers.dark_zurich import DarkZurich
from blda.data.readers.frames import Reader
from blda.data.readers.gta5 import GTA5
from blda.data.readers.image_folder import FolderReader
from blda.data.readers.synthia import Synthia
from blda.data.readers.viper import Viper
from blda.data.sample import Sample
from blda.data.sampler import DrawSampler, RareClassSampler, ReplacingSampler
from blda.data.segmentation_dataset import EvaluationDataset, SegmentationDataset
from blda.data.skip_unreadable import SkipUnreadable
from blda.data.transforms import TRIES, RandomCrop, Resize
from blda.engine.trainer import Batches
from blda.spelling import nearest

_LOG = logging.getLogger(__name__)


class DataBuild:
    """The data sets of an image run; a video or classifier's run overrides the three methods at the end.

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

    def __init__(self, config: Config, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        self._readers: dict[tuple[str, bool], Reader] = {}
        self._skipping: list[SkipUnreadable] = []
        self.classes = _classes(config.classes)
        self.protocols = tuple(map(_protocol, config.evaluation.protocols)) or (self._own_protocol(),)
        for protocol in self.protocols:
            protocol.require(self.classes)

    def examine(self, methods: Sequence[str], scope: CheckScope, statistics: bool = False) -> Iterator[DataReport]:
        """Checks of the data sets that these methods need, one after the other.

        statistics: count the class pixels of rare-class sampling, where the run has it, and keep them for training.
        """
        skip_unreadable, rare = self.config.data.on_error == "skip", self.config.source.rare
        counted = {}
        if statistics and rare:
            least = rare.min_pixels + self.published_draws
            counted = {"count": partial(self.class_counts, skip_unreadable=True), "min_pixels": least}
        learnt, scored = {"the run": self.classes}, {f"protocol {p.name}": p.classes for p in self.protocols}
        scores = self.config.data.on_unseen == "stop"
        needed = {name for protocol in self.protocols for name in protocol.classes if scores}
        yield self.check(
            CheckTarget("source", self.source_data, self.classes, learnt, needed, skip_unreadable, **counted), scope
        )
        if set(methods) != {"source_only"}:
            yield self.check(
                CheckTarget("target", self.target_data, self.classes, skip_unreadable=skip_unreadable), scope
            )
        yield self.check(CheckTarget("evaluation", self.evaluation_data, self.classes, scored), scope)

    def batches(self, adapts: bool) -> Batches:
        """The stream of (source, target) batches from a pass on; no target unless the method adapts."""
        source = self.source_data(distorted=self.config.source.photometric and not adapts)
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

    def source_data(self, distorted: bool = False) -> SegmentationDataset:
        """Labelled training crops; distorted: in their colours."""
        data = self.config.source
        reader = self.reader("source.reader", data.reader, labelled=True)
        least = data.rare.min_pixels * data.rare.min_crop_ratio if data.rare else 0
        tries = TRIES + self.published_draws
        crop = RandomCrop(self.resize("source"), data.crop, data.flip, data.max_share, least, tries=tries)
        how = (crop, self.seed("source"), True, PhotoMetricDistortion() if distorted else None)
        return SegmentationDataset(reader, self.lookup(reader, data.rename), *how)

    def resize(self, role: str) -> Resize:
        """The rule by which whole images of source, target or evaluation get their size."""
        data, exact = getattr(self.config, role), self.config.data.label_resize == "nearest_exact"
        return Resize(data.size if role == "evaluation" else data.resize, data.keep_ratio, exact)

    @property
    def published_draws(self) -> bool:
        """Whether frames and crops are drawn as in the published code."""
        return self.config.data.draws == "published"

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

    def frequency(self) -> torch.Tensor:
        """Labelled pixels of each class in the source, (C,) int64 on the device; counted once by one process."""
        with self.accelerator.main_process_first():
            pixels = self.class_counts(self.source_data()).pixels
        return torch.from_numpy(pixels.sum(0)).to(self.accelerator.device)

    def class_counts(self, source: SegmentationDataset, skip_unreadable: bool | None = None) -> ClassCounts:
        """Class pixels of every source frame, from the run's cache if they are there.

        skip_unreadable: go past labels that cannot be used; None does what the config says of errors.
        """
        cache = self.config.data.cache or Path(self.config.run) / "cache"
        skip_unreadable = self.config.data.on_error == "skip" if skip_unreadable is None else skip_unreadable
        return count_classes(source.reader, source.lookup, len(self.classes), cache, skip_unreadable=skip_unreadable)

    def skipped(self) -> dict[str, int]:
        """Frames that this process's data sets replaced because they could not be used; none unless that is allowed."""
        if self.config.data.on_error == "stop":
            return {}
        return {"data/skipped": sum(dataset.replaced() for dataset in self._skipping)}

    def reader(self, where: str, part: Component, labelled: bool) -> Reader:
        """A data set, looked through once; unlabelled ones have no label paths at all."""
        if (where, labelled) not in self._readers:
            self._readers[where, labelled] = construct(where, part, self.readers, labelled=labelled)
        return self._readers[where, labelled]

    def readers_made(self) -> list[Reader]:
        """The data sets that were asked for so far."""
        return list(self._readers.values())

    def lookup(self, reader: Reader, rename: Mapping[str, str]) -> LabelLookup:
        """Its ids as indices of the run's classes."""
        return label_lookup(reader.label_map, reader.ignored, self.classes, rename)

    def evaluation_lookup(self, reader: Reader) -> LabelLookup:
        """As `table`, with what the first protocol merges where the run lacks the merged class."""
        merged = self.protocols[0].renaming(self.classes, reader.label_map.values())
        return self.lookup(reader, {**merged, **self.config.evaluation.rename})

    def seed(self, stream: str) -> int:
        """The seed of one stream of random numbers."""
        return seeding.seed_of(self.config.seed, stream)

    def _draws(self, dataset: Dataset, domain: str, start: int, pixels: Any = None) -> Iterator[Sample]:
        training, accelerator = self.config.training, self.accelerator
        shared = (training.batch, accelerator.process_index, accelerator.num_processes, self.seed(domain), start)
        if pixels is None:
            sampler = (ReplacingSampler if self.published_draws else DrawSampler)(len(dataset), *shared)
        else:
            rare = self.config.source.rare
            sampler = RareClassSampler(pixels, *shared, rare.temperature, rare.min_pixels, self.published_draws)
        if self.config.data.on_error == "skip":
            dataset = SkipUnreadable(dataset, sampler)
            self._skipping.append(dataset)
        return iter(endless_loader(dataset, sampler, training.workers, accelerator.device.type == "cuda"))

    def _own_protocol(self) -> Protocol:
        named = self.config.classes if isinstance(self.config.classes, str) else "all"
        return PROTOCOLS.get(named, protocol_of(self.classes, named))

    # What time, or a classifier, replaces:

    def check(self, role: CheckTarget, scope: CheckScope) -> DataReport:
        """A check of one data set."""
        return check(role, scope)

    def target_data(self) -> Dataset[Sample]:
        """Unlabelled training crops."""
        data = self.config.target
        reader = self.reader("target.reader", data.reader, labelled=False)
        return SegmentationDataset(reader, None, self.target_crop(), self.seed("target"), in_bytes=True)

    def target_crop(self) -> RandomCrop:
        """How crops are cut from the target's images, and which of their pixels are trusted."""
        data = self.config.target
        return RandomCrop(self.resize("target"), data.crop, data.flip, margins=self.config.self_training.margins)

    def evaluation_data(self) -> Dataset[Sample]:
        """Labelled whole images."""
        data = self.config.evaluation
        reader = self.reader("evaluation.reader", data.reader, labelled=True)
        return EvaluationDataset(reader, self.evaluation_lookup(reader), self.resize("evaluation"))


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
