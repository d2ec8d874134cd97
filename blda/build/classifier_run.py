"""Composition of an image classifier's run: data sets with one class per image, and its other components."""

from __future__ import annotations

from dataclasses import replace

from accelerate import Accelerator

from blda.build.adaptation_factory import AdaptationFactory, image_labels, jitter_and_mask, whole_images
from blda.build.batch_stream import BatchStream
from blda.build.evaluation_factory import EvaluationFactory
from blda.build.loss_factory import LossFactory
from blda.build.network_factory import NetworkFactory
from blda.build.reader_factory import ReaderFactory, class_names
from blda.build.run import Run
from blda.build.statistics_factory import pooled_statistics
from blda.config.classification import ClassifyConfig
from blda.config.components import Constructors
from blda.config.data_schema import Target
from blda.data.checks.data_report import DataReport
from blda.data.checks.dataset_check import CheckScope, CheckTarget, attempt, inspect
from blda.data.class_statistics import ClassCounts
from blda.data.classification_dataset import (
    ClassificationDataset,
    ClassificationEvaluation,
    Images,
    images_of_classes,
    look,
)
from blda.data.random_resized_crop import RandomResizedCrop
from blda.data.readers.class_folders import ClassFolders
from blda.data.transforms import RandomCrop
from blda.engine.class_accuracy import ClassAccuracy
from blda.models.classifier import Classifier, LinearHead

READERS: Constructors = {"class_folders": ClassFolders}
HEADS: Constructors = {"linear": LinearHead}


class ClassifiedImages:
    """Data sets of images with one class each: random windows for training, the centre for evaluation."""

    config: ClassifyConfig

    def __init__(self, readers: ReaderFactory) -> None:
        self.readers, self.config = readers, readers.config

    def make(self) -> None:
        """Generate the data that the config describes: none for classifiers."""

    def source(self, distorted: bool = False) -> ClassificationDataset:
        """Build the labelled training windows; distorted must be False."""
        readers = self.readers
        reader, window = readers.source(), self._window("source", self.config.source)
        lookup = readers.lookup(reader, self.config.source.rename)
        return ClassificationDataset(reader, lookup, window, readers.seed("source"))

    def target(self) -> ClassificationDataset:
        """Build the unlabelled training windows."""
        window = self._window("target", self.config.target)
        return ClassificationDataset(self.readers.target(), None, window, self.readers.seed("target"))

    def member(self, domain: str, number: int) -> ClassificationDataset:
        """Build the training windows of "source" or "target", which a classifier has one data set of."""
        return self.source() if domain == "source" else self.target()

    def evaluation(self) -> ClassificationEvaluation:
        """Build the labelled evaluation images, cut to their centre."""
        readers = self.readers
        reader = readers.evaluation()
        shown = (readers.resize("evaluation"), self.config.classification.centre)
        return ClassificationEvaluation(reader, readers.evaluation_lookup(reader), *shown)

    def whole_images(self, domain: str) -> ClassificationEvaluation:
        """Build the centre crops of the training images of "source", with labels, or "target", without."""
        readers = self.readers
        shown = (readers.resize(domain), self.config.classification.centre)
        if domain == "target":
            return ClassificationEvaluation(readers.target(), None, *shown)
        reader = readers.source()
        return ClassificationEvaluation(reader, readers.lookup(reader, self.config.source.rename), *shown)

    def check(self, target: CheckTarget, scope: CheckScope) -> DataReport:
        """Check one data set; the class of each image is known without opening it."""
        made = attempt(target)
        return made.failed or inspect(replace(target, count=self.class_counts), made, scope, look)

    def class_counts(self, source: Images, skip_unreadable: bool | None = None) -> ClassCounts:
        """Count the class of every frame, as one pixel each."""
        return ClassCounts(images_of_classes(source.reader, source.lookup, len(self.readers.class_names)), {})

    def _window(self, role: str, data: Target) -> RandomCrop:
        """Build the transform that draws training windows."""
        scale, resize = self.config.classification.scale, self.readers.resize(role)
        if scale is None:
            return RandomCrop(resize, data.crop, data.flip)
        return RandomResizedCrop(scale, data.crop, resize, data.flip)


def classifier_run(config: ClassifyConfig, accelerator: Accelerator) -> Run:
    """Compose the classification of images: class folders, pooled statistics, accuracy per class."""
    # The classes of a folder are the run's, in their order, unless its reader names its own.
    data = ClassifiedImages(ReaderFactory(config, READERS, classes=class_names(config)))
    batches = BatchStream(data, accelerator)
    losses = LossFactory(config, accelerator, pooled_statistics, batches.frequency)
    alike = config.classification.centre or (config.evaluation.size and not config.evaluation.keep_ratio)
    return Run(
        config,
        accelerator,
        data,
        batches,
        NetworkFactory(config, HEADS, Classifier),
        losses,
        AdaptationFactory(config, accelerator, losses, image_labels, whole_images, jitter_and_mask),
        EvaluationFactory(data, accelerator, [ClassAccuracy], config.training.batch if alike else 1),
    )
