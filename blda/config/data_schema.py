"""The data of a run: domains, evaluation and the handling of data sets, as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from blda.config.data_union import DataUnion
from blda.config.ranges import Count, Natural, NotNegative, Positive, PositiveShare, Size

Component = dict[str, Any]
"""A part by name with its keywords, for example {name: dis, preset: medium}; `build` calls its constructor."""


def one_of(key: str, value: str, *known: str) -> None:
    """Raise ValueError unless the value of a key is one of the known ones."""
    if value not in known:
        raise ValueError(f"{key} is '{value}'; use {' or '.join(known)}")


@dataclass(frozen=True)
class Target(DataUnion):
    """Images of one domain, and the training crops cut from them; a list of these joins data sets, see `DataUnion`.

    reader: {name, root, ...}. resize: (height, width) of the whole image, null keeps its size.
    crop: (height, width) of a random window of the resized image, null for the whole.
    flip: mirror half of the crops. keep_ratio: resize to the largest size of the image's shape within `resize`
        (upright or lying), not to `resize` itself.
    share: of the draws, in a list of data sets.
    """

    reader: Component
    resize: Size | None = None
    crop: Size | None = None
    flip: bool = True
    keep_ratio: bool = False
    share: PositiveShare | None = None
    others: tuple[Target, ...] = ()


@dataclass(frozen=True)
class Source(Target):
    """Labelled images of the source domain; see `Target` for the other keys.

    rename: the data set's class names -> the run's.
    max_share: crops in which one class has this share or more are drawn again.
    rare: rare-class sampling, null for uniform sampling.
    photometric: distort the colours of the images of method source_only, as published (blda/data/distortion.py).
    """

    SHARED = (*Target.SHARED, "max_share", "rare", "photometric")

    rename: dict[str, str] = field(default_factory=dict)
    max_share: PositiveShare = 0.75
    rare: Rare | None = None
    photometric: bool = False
    others: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Rare:
    """Rare-class sampling (METHOD 6)."""

    temperature: Positive = 0.01
    min_pixels: Natural = 3000
    min_crop_ratio: NotNegative = 0.5


@dataclass(frozen=True)
class Evaluation:
    """Labelled images to evaluate on; see also blda/models/test_time_augmentation.py.

    rename: the data set's class names -> the run's. size: (height, width) of the image, null for its own.
    keep_ratio: see `Target`. window: (height, width) of sliding windows, null to predict the whole image at once.
    stride: (height, width) between windows, null for half a window. window_batch: windows predicted at a time.
    flip: average with the mirror image. every: steps between evaluations. protocols: names or {name, classes, ...}.
    """

    reader: Component
    rename: dict[str, str] = field(default_factory=dict)
    size: Size | None = None
    keep_ratio: bool = False
    window: Size | None = None
    stride: Size | None = None
    window_batch: Count = 4
    flip: bool = False
    every: Count = 2000
    protocols: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.stride is not None and self.window is None:
            raise ValueError("evaluation.stride needs evaluation.window; give both, or remove the stride")


@dataclass(frozen=True)
class Data:
    """Handling of data sets.

    on_error: action at a frame whose files cannot be used: 'stop', or 'skip' to take another frame and report it.
    on_unseen: action when no source label shows a scored class: 'stop', or 'warn', for trials with a few images.
    cache: folder for class statistics, null for `<run>/cache`; runs may share it.
    draws: 'epochs' shows every frame once an epoch, a class's frames have at least `rare.min_pixels` of it, and a crop
    is
        drawn at most 10 times; 'published' draws with replacement, a class's frames have more than that, and a crop is
        drawn at most 11 times.
    label_resize: 'nearest_exact' labels a pixel by the nearest centre, 'nearest' by the pixel under its upper left
        corner (published); the names are OpenCV's.
    """

    on_error: str = "stop"
    on_unseen: str = "stop"
    cache: str | None = None
    draws: str = "epochs"
    label_resize: str = "nearest_exact"

    def __post_init__(self) -> None:
        one_of("data.on_error", self.on_error, "stop", "skip")
        one_of("data.on_unseen", self.on_unseen, "stop", "warn")
        one_of("data.draws", self.draws, "epochs", "published")
        one_of("data.label_resize", self.label_resize, "nearest_exact", "nearest")
