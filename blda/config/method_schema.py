"""The training methods of a run: self-training, its further losses, and BLDA, as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from blda.config.data_schema import Component, one_of
from blda.config.ranges import Count, Natural, NotNegative, Range, Share, Size

THINGS = ("light", "sign", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
"""Cityscapes' classes of countable things, 6, 7 and 11 to 18 of its 19 (DAFormer, section 3.3)."""


@dataclass(frozen=True)
class Mask:
    """Blocks of about `block` pixels, each hidden from the student with probability `ratio`."""

    block: Count = 64
    ratio: Share = 0.7


@dataclass(frozen=True)
class Masked(Mask):
    """Loss on masked images.

    domains: 'target', or 'both' to take every other image from the source, with its label.
    jitter: jitter and blur the images before masking.
    """

    domains: str = "target"
    jitter: bool = True

    def __post_init__(self) -> None:
        one_of("self_training.masked.domains", self.domains, "target", "both")


@dataclass(frozen=True)
class TrainedTeacher:
    """Trained network that labels the target, in place of the student's moving average.

    weights: a run's folder, a checkpoint (step_*.pt), a saved folder, or "user/name" of the Hugging Face hub, read as
        `blda.load` does. Its network may be any; its classes are the run's.
    calibration: file of `blda calibrate` for that network, null for the one that was saved with it, if any.
    """

    weights: str
    calibration: str | None = None

    def __post_init__(self) -> None:
        if not self.weights.strip():
            raise ValueError("self_training.teacher.weights is empty; give a run's folder, or set the teacher to null")


@dataclass(frozen=True)
class SelfTraining:
    """Self-training (METHOD 6).

    teacher: trained network that labels the target (distillation), null for the student's moving average.
    momentum: momentum of the moving average. threshold: smallest probability of a confident pseudo-label.
    ignore_top, ignore_bottom: rows of the target crop without pseudo-label.
    strength: largest change by the colour jitter. jitter, blur: probability of colour jitter and of blur.
    margins: top, bottom, left and right rows and columns of the whole resized target image without pseudo-label, null
        for none.
    masked: third loss, on masked target images (MIC), null for none.
    burn_in: first steps on the source alone, for networks without pretrained weights.
    augment: 'per_image' jitters each image by itself, with torchvision's operations; 'published' jitters a batch
        alike, with the stronger operations of kornia 0.5.8.
    mixer: {name, keyword: value}, builds the mixed image.
    classmix: 'per_image' pastes half of an image's classes; 'per_batch' half of those of the whole batch, ignored
        pixels among them (published).
    """

    momentum: Share = 0.999
    threshold: Share = 0.968
    ignore_top: Natural = 0
    ignore_bottom: Natural = 0
    strength: Share = 0.2
    jitter: Share = 0.8
    blur: Share = 0.5
    margins: tuple[Natural, Natural, Natural, Natural] | None = None
    masked: Masked | None = None
    burn_in: Natural = 0
    augment: str = "per_image"
    mixer: Component = field(default_factory=lambda: {"name": "classmix"})
    classmix: str = "per_image"
    teacher: TrainedTeacher | None = None

    def __post_init__(self) -> None:
        one_of("self_training.augment", self.augment, "per_image", "published")
        one_of("self_training.classmix", self.classmix, "per_image", "per_batch")


@dataclass(frozen=True)
class FeatureDistance:
    """Distance between the encoder's features and its pretrained weights' features, on things of the source (METHOD 6).

    strength: lambda. min_ratio: share of a feature's pixels that one thing must cover. things: class names, of which
    the run may lack some.
    """

    strength: NotNegative = 0.005
    min_ratio: Annotated[float, Range(0.5, 1, above=True)] = 0.75
    things: tuple[str, ...] = THINGS


@dataclass(frozen=True)
class FoundationDistance:
    """Distance between a student's features, through a small head, and those of a frozen pretrained encoder (METHOD 6).

    strength: weight of the distance on each domain. domains: 'source', 'target' or 'both'.
    encoder: {name, ...} of the frozen encoder, null for `model.encoder` as its weights are.
    size: (height, width) at which the frozen encoder sees an image, whatever the `resolution`; null for the crop's.
    """

    strength: NotNegative = 0.1
    domains: str = "both"
    encoder: Component | None = None
    size: Size | None = None

    def __post_init__(self) -> None:
        one_of("foundation_distance.domains", self.domains, "source", "target", "both")


@dataclass(frozen=True)
class Density:
    """Cumulative-density regression (METHOD 5). strength: lambda. power: 2 (paper) or 1 (its code)."""

    strength: NotNegative = 0.2
    power: Annotated[int, Range(1, 2)] = 2


@dataclass(frozen=True)
class Reweighting:
    """Class weights of the method `reweighted`: factor / share^power.

    factors: class -> factor, 1 for classes that are not named; with power 0 these are the weights themselves.
    """

    power: NotNegative = 0.5
    factors: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Adjustment:
    """Logit adjustment of the method `adjusted`: the loss sees z + power log share. power: 1 as published."""

    power: NotNegative = 0.3


@dataclass(frozen=True)
class Blda:
    """Class-balanced logits (METHOD 3 and 4).

    tau: strength of the correction. components: Gaussians of a cell's mixture.
    momentum: largest weight of the past in the statistics. warmup: updates until the momentum is reached.
    min_pixels: a class with fewer pixels in a batch is not updated.
    correct_target: False corrects source pixels only.
    by_belief: count a pseudo-labelled pixel for a class sampled from the teacher's probabilities instead of its
        likeliest class.
    density: cumulative-density regression, null for none.
    """

    tau: NotNegative = 0.1
    components: Count = 5
    momentum: Share = 0.99
    warmup: Natural = 1500
    min_pixels: Natural = 100
    correct_target: bool = True
    by_belief: bool = False
    density: Density | None = None
