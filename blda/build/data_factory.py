"""Data sets of an image run: training crops of both domains and whole images for evaluation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from torch.utils.data import Dataset

from blda.build.reader_factory import ReaderFactory, member_names
from blda.config.schema import Config
from blda.data.checks.data_report import DataReport
from blda.data.checks.dataset_check import CheckScope, CheckTarget, check
from blda.data.class_statistics import ClassCounts, count_classes, joined_counts
from blda.data.distortion import PhotoMetricDistortion
from blda.data.joined_dataset import JoinedDataset
from blda.data.sample import Sample
from blda.data.segmentation_dataset import EvaluationDataset, SegmentationDataset
from blda.data.transforms import TRIES, RandomCrop


class DataFactory(Protocol):
    """Interface of the data sets of one kind of run; see `ImageData`."""

    config: Config
    readers: ReaderFactory

    def make(self) -> None: ...

    def source(self, distorted: bool = False) -> Dataset[Sample]: ...

    def target(self) -> Dataset[Sample]: ...

    def member(self, domain: str, number: int) -> Dataset[Sample]: ...

    def evaluation(self) -> Dataset[Sample]: ...

    def whole_images(self, domain: str) -> Dataset[Sample]: ...

    def check(self, target: CheckTarget, scope: CheckScope) -> DataReport: ...

    def class_counts(self, source: Dataset[Sample], skip_unreadable: bool | None = None) -> ClassCounts: ...


class ImageData:
    """Data sets of single images: random crops for training, whole images for evaluation."""

    def __init__(self, readers: ReaderFactory) -> None:
        self.readers, self.config = readers, readers.config

    def make(self) -> None:
        """Generate the data that the config describes: none for image runs."""

    def source(self, distorted: bool = False) -> SegmentationDataset | JoinedDataset:
        """Build the labelled training crops; distorted: change their colours at random."""
        return joined(self.config, "source", partial(self.source_member, distorted=distorted))

    def target(self) -> SegmentationDataset | JoinedDataset:
        """Build the unlabelled training crops."""
        return joined(self.config, "target", self.target_member)

    def member(self, domain: str, number: int) -> SegmentationDataset:
        """Build the training crops of one data set of "source" or "target"."""
        return (self.source_member if domain == "source" else self.target_member)(number)

    def source_member(self, number: int, distorted: bool = False) -> SegmentationDataset:
        """Build the labelled training crops of one data set; see `source`."""
        data, readers = self.config.source, self.readers
        reader = readers.source(number)
        least = data.rare.min_pixels * data.rare.min_crop_ratio if data.rare else 0
        tries = TRIES + published_draws(self.config)
        crop = RandomCrop(readers.resize("source", number), data.crop, data.flip, data.max_share, least, tries=tries)
        how = (crop, readers.seed("source"), True, PhotoMetricDistortion() if distorted else None)
        return SegmentationDataset(reader, readers.lookup(reader, data.members[number].rename), *how)

    def target_member(self, number: int) -> SegmentationDataset:
        """Build the unlabelled training crops of one data set."""
        how = (self.target_crop(number), self.readers.seed("target"))
        return SegmentationDataset(self.readers.target(number), None, *how, in_bytes=True)

    def target_crop(self, number: int = 0) -> RandomCrop:
        """Build the crop of the target's images, with the margins whose pixels are not trusted."""
        data = self.config.target
        margins = self.config.self_training.margins
        return RandomCrop(self.readers.resize("target", number), data.crop, data.flip, margins=margins)

    def evaluation(self) -> EvaluationDataset:
        """Build the labelled whole images for evaluation."""
        readers = self.readers
        reader = readers.evaluation()
        return EvaluationDataset(reader, readers.evaluation_lookup(reader), readers.resize("evaluation"))

    def whole_images(self, domain: str) -> EvaluationDataset | JoinedDataset:
        """Build whole images of the training data of "source", with labels, or "target", without."""
        return joined(self.config, domain, partial(self._whole_images, domain))

    def _whole_images(self, domain: str, number: int) -> EvaluationDataset:
        readers, size = self.readers, self.readers.resize(domain, number)
        if domain == "target":
            return EvaluationDataset(readers.target(number), None, size)
        reader = readers.source(number)
        lookup = readers.lookup(reader, self.config.source.members[number].rename)
        return EvaluationDataset(reader, lookup, size)

    def check(self, target: CheckTarget, scope: CheckScope) -> DataReport:
        """Check one data set."""
        return check(target, scope)

    def class_counts(
        self, source: SegmentationDataset | JoinedDataset, skip_unreadable: bool | None = None
    ) -> ClassCounts:
        """Count the class pixels of every source frame, or read them from the run's cache, of each data set by itself.

        skip_unreadable: skip labels that cannot be used; None follows the config's data.on_error.
        """
        if isinstance(source, JoinedDataset):
            parts = source.members.items()
            return joined_counts({name: self.class_counts(each, skip_unreadable) for name, each in parts})
        cache = self.config.data.cache or Path(self.config.run) / "cache"
        skip = self.config.data.on_error == "skip" if skip_unreadable is None else skip_unreadable
        return count_classes(source.reader, source.lookup, len(self.readers.class_names), cache, skip_unreadable=skip)


def joined(config: Config, domain: str, make: Callable[[int], Dataset[Sample]]) -> Dataset[Sample] | JoinedDataset:
    """Build a domain's data set: its only one, number 0, or several joined."""
    names = member_names(config, domain)
    if len(names) == 1:
        return make(0)
    return JoinedDataset({name: make(number) for number, name in enumerate(names)})


def published_draws(config: Config) -> bool:
    """Return whether frames and crops are drawn as in the published code."""
    return config.data.draws == "published"
