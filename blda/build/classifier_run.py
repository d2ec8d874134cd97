"""Parts of an image classifier's run: what differs from the segmentation run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

from torch import nn

from blda.balance.pooled_statistics import PooledStatistics
from blda.build.image_run import Build
from blda.config.classification import ClassifyConfig
from blda.config.components import Constructors
from blda.config.schema import Component
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
from blda.data.readers.frames import Reader
from blda.data.transforms import RandomCrop, Resize
from blda.engine.class_accuracy import ClassAccuracy
from blda.engine.evaluator import Evaluator
from blda.engine.metrics import Metric
from blda.models.classifier import Classifier, LinearHead
from blda.models.segmenter import IMAGENET_MEAN
from blda.selftraining.masking import Augment, BlockMask
from blda.selftraining.mixing import WholeImages
from blda.selftraining.pseudo_labels import ImageLabels


class ClassifyBuild(Build):
    """The parts of a classifier's run: class folders, pooled features, whole target images, accuracy by class."""

    readers: ClassVar[Constructors] = {"class_folders": ClassFolders}
    heads: ClassVar[Constructors] = {"linear": LinearHead}
    kind: ClassVar[Callable[..., nn.Module]] = Classifier
    config: ClassifyConfig

    def reader(self, where: str, part: Component, labelled: bool) -> Reader:
        """A data set; its classes are the run's, in their order, unless it names its own."""
        return super().reader(where, {"classes": self.classes, **part}, labelled)

    def check(self, role: CheckTarget, scope: CheckScope) -> DataReport:
        """A check of one data set; what its images show is known without opening them."""
        made = attempt(role)
        return made.failed or inspect(replace(role, count=self.class_counts), made, scope, look)

    def class_counts(self, source: Images, skip_unreadable: bool = True) -> ClassCounts:
        """The class of every frame, as counts."""
        return ClassCounts(images_of_classes(source.reader, source.lookup, len(self.classes)), {})

    def source_data(self, distorted: bool = False) -> ClassificationDataset:
        """Labelled training windows; distorted must be False."""
        data = self.config.source
        reader = self.reader("source.reader", data.reader, labelled=True)
        window = self.window(self.resize("source"), data.crop, data.flip)
        return ClassificationDataset(reader, self.lookup(reader, data.rename), window, self.seed("source"))

    def target_data(self) -> ClassificationDataset:
        """Unlabelled training windows."""
        data = self.config.target
        reader = self.reader("target.reader", data.reader, labelled=False)
        window = self.window(self.resize("target"), data.crop, data.flip)
        return ClassificationDataset(reader, None, window, self.seed("target"))

    def window(self, resize: Resize, crop: tuple[int, int] | None, flip: bool) -> RandomCrop:
        """What draws training windows."""
        scale = self.config.classification.scale
        return RandomCrop(resize, crop, flip) if scale is None else RandomResizedCrop(scale, crop, resize, flip)

    def evaluation_data(self) -> ClassificationEvaluation:
        """Labelled images, cut to their middle."""
        data = self.config.evaluation
        reader = self.reader("evaluation.reader", data.reader, labelled=True)
        shown = (self.resize("evaluation"), self.config.classification.centre)
        return ClassificationEvaluation(reader, self.evaluation_lookup(reader), *shown)

    def evaluator(self) -> Evaluator:
        """Evaluation of this process's share, a batch at a time where all images have one size."""
        config = self.config
        alike = config.classification.centre or (config.evaluation.size and not config.evaluation.keep_ratio)
        batch = config.training.batch if alike else 1
        return Evaluator(
            self.evaluation_data(), self.metrics, self.accelerator, config.training.workers, config.log.bar, batch
        )

    def pseudo_labeler(self) -> ImageLabels:
        """What makes pseudo-labels."""
        return ImageLabels(self.config.self_training.threshold)

    def mixer(self) -> WholeImages:
        """Target images are trained on as they are."""
        return WholeImages()

    def augment(self) -> Augment:
        """Jitter and blur, then masking if there is any."""
        mask = self.config.classification.mask
        if mask is None:
            return super().augment()
        return BlockMask(super().augment(), self.config.seed, mask.block, mask.ratio, IMAGENET_MEAN)

    def source_statistics(self) -> PooledStatistics:
        """Statistics that remember past batches, as each has a handful of images of a class."""
        return PooledStatistics(**self.statistics_settings("source"), memory=self.config.classification.memory)

    def target_statistics(self) -> PooledStatistics:
        """The same of the target's logits."""
        return PooledStatistics(**self.statistics_settings("target"), memory=self.config.classification.memory)

    def metrics(self) -> Sequence[Metric]:
        """What evaluation measures."""
        return [ClassAccuracy(self.classes, self.protocols)]
