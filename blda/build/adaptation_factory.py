"""Build the training methods of a run: supervised, or self-training with its pseudo-labels, mixing and masking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from blda.build.loss_factory import LossFactory
from blda.build.reader_factory import class_names
from blda.build.statistics_factory import balances
from blda.config.classification import ClassifyConfig
from blda.config.components import Constructors, component_name, construct
from blda.config.schema import Config
from blda.data import seeding
from blda.engine.trainer import Method
from blda.models.frozen_features import FrozenFeatures
from blda.models.segmenter import IMAGENET_MEAN
from blda.selftraining.augmentation import ColourAndBlur, PublishedColourAndBlur, unchanged
from blda.selftraining.criterion import Criterion, PlainLoss
from blda.selftraining.fixed_teacher import FixedTeacher
from blda.selftraining.foundation_distance import TargetFoundationDistance
from blda.selftraining.masked_consistency import MaskedConsistency
from blda.selftraining.masking import Augment, BlockMask
from blda.selftraining.mixing import ClassMix, WholeImages, chosen_classes, chosen_classes_of_batch
from blda.selftraining.pseudo_labels import ImageLabels, TeacherLabels
from blda.selftraining.self_training import Consistency, Diagnostics, Mixer, PseudoLabeler, SelfTraining
from blda.selftraining.supervised import Supervised
from blda.selftraining.teacher import Teacher

METHODS = ("source_only", "self_training", "reweighted", "adjusted", "blda")
MIXERS: Constructors = {"classmix": ClassMix}
"""Mixers that `self_training.mixer` may name; each gets num_classes and the run's seed."""


@dataclass
class AdaptationFactory:
    """Factory of a training method around a wrapped student.

    losses: builds the detail's loss of masked images. pseudo_labeler, mixer: build these components from the config.
    augment: builds the augmentation of the mixed image from the colour jitter.
    """

    config: Config
    accelerator: Accelerator
    losses: LossFactory
    pseudo_labeler: Callable[[Config], PseudoLabeler]
    mixer: Callable[[Config], Mixer]
    augment: Callable[[Config, Augment], Augment] = lambda config, jitter: jitter

    def method(
        self,
        student: nn.Module,
        teacher: Teacher | FixedTeacher | None,
        criterion: Criterion,
        diagnostics: Diagnostics | None,
        mean: Tensor,
        frozen: FrozenFeatures | None = None,
    ) -> Method:
        """Build `SelfTraining`, or `Supervised` without a teacher.

        student: wrapped by Accelerate. mean: the mean that it subtracts from images. frozen: features of the foundation
        distance, None for a method without it.
        """
        if teacher is None:
            return Supervised(student, criterion)
        config = self.config
        augment = self.augment(config, self.jitter(config.seed))
        masked = self.masked(mean)
        further = {} if masked is None else {"masked": masked}
        if frozen is not None:
            further |= self.foundation(frozen)
        parts = (student, teacher, self.pseudo_labeler(config), criterion, augment, len(class_names(config)))
        burn_in = config.self_training.burn_in
        return SelfTraining(*parts, config.seed, burn_in, self.mixer(config), diagnostics, further)

    def foundation(self, frozen: FrozenFeatures) -> dict[str, Consistency]:
        """Build the distance to frozen features of the target, by its name in the log; empty for the source alone."""
        settings = self.config.foundation_distance
        if settings.domains == "source":
            return {}
        jitter = self.jitter(seeding.seed_of(self.config.seed, "foundation"))
        return {"foundation": TargetFoundationDistance(frozen, settings.strength, jitter)}

    def masked(self, mean: Tensor) -> MaskedConsistency | None:
        """Build the loss on masked target images, None if the config has none.

        mean: the mean that the network subtracts, used for hidden blocks.
        """
        settings, seed = self.config.self_training.masked, seeding.seed_of(self.config.seed, "masked")
        if settings is None:
            return None
        before = self.jitter(seed, together=True) if settings.jitter else unchanged
        mask = BlockMask(before, seed, settings.block, settings.ratio, mean.flatten().unbind())
        return MaskedConsistency(mask, self.losses.with_detail(PlainLoss(), PlainLoss()), settings.domains == "both")

    def jitter(self, seed: int, together: bool = False) -> Augment:
        """Build colour jitter and blur; together: see `PublishedColourAndBlur`."""
        settings = self.config.self_training
        strengths = (settings.strength, settings.jitter, settings.blur)
        if settings.augment == "per_image":
            return ColourAndBlur(seed, *strengths)
        batch = self.config.training.batch * self.accelerator.num_processes
        return PublishedColourAndBlur(seed, batch, *strengths, together)


def teacher_labels(config: Config) -> TeacherLabels:
    """Build the labeller of every pixel of single images."""
    settings = config.self_training
    keep_probabilities = config.blda.by_belief and balances(config)
    return TeacherLabels(settings.threshold, settings.ignore_top, settings.ignore_bottom, keep_probabilities)


def mixer(config: Config) -> Mixer:
    """Build the config's mixer; ClassMix chooses classes for each image, or for the batch as published."""
    where, settings = "self_training.mixer", config.self_training
    fixed: dict[str, Any] = {"num_classes": len(class_names(config)), "seed": config.seed}
    if component_name(where, settings.mixer, MIXERS) == "classmix":
        fixed["choose"] = chosen_classes_of_batch if settings.classmix == "per_batch" else chosen_classes
    return construct(where, settings.mixer, MIXERS, **fixed)


def image_labels(config: Config) -> ImageLabels:
    """Build the labeller of whole images, for classifiers."""
    return ImageLabels(config.self_training.threshold)


def whole_images(config: Config) -> WholeImages:
    """Build the mixer of classifiers, which returns target images unchanged."""
    return WholeImages()


def jitter_and_mask(config: ClassifyConfig, jitter: Augment) -> Augment:
    """Build jitter and blur, followed by masking if a classifier's config has it."""
    mask = config.classification.mask
    return jitter if mask is None else BlockMask(jitter, config.seed, mask.block, mask.ratio, IMAGENET_MEAN)
