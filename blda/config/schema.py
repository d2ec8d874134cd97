"""A run, described by frozen dataclasses; nothing below `build` reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from blda.config.resolution import at_resolution

C = TypeVar("C", bound="Config")

Component = dict[str, Any]
"""A part by name with its keywords, for example {name: dis, preset: medium}; `build` calls its constructor."""
THINGS = ("light", "sign", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
"""Cityscapes' classes of countable things, 6, 7 and 11 to 18 of its 19 (DAFormer, section 3.3)."""


def _one_of(key: str, value: str, *known: str) -> None:
    if value not in known:
        raise ValueError(f"{key} is '{value}'; use {' or '.join(known)}")


@dataclass(frozen=True)
class Target:
    """Where images come from and how a training crop is cut from them.

    reader: {name, root, ...}. resize, crop: (height, width), first the whole
    image to `resize`, then a random window; null keeps the image as it is. flip: mirror half of them.
    keep_ratio: to the largest size of the image's shape within `resize` (upright or lying), not to `resize` itself.
    """

    reader: Component
    resize: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    flip: bool = True
    keep_ratio: bool = False


@dataclass(frozen=True)
class Source(Target):
    """A labelled one. rename: its class names -> the run's. max_share: windows with this share or more of one class
    are drawn again. rare: rare-class sampling, null for uniform. photometric: distort the colours of what source_only
    learns from, as the published baselines do (blda/data/distortion.py)."""

    rename: dict[str, str] = field(default_factory=dict)
    max_share: float = 0.75
    rare: Rare | None = None
    photometric: bool = False


@dataclass(frozen=True)
class Rare:
    """Rare-class sampling (METHOD 6)."""

    temperature: float = 0.01
    min_pixels: int = 3000
    min_crop_ratio: float = 0.5


@dataclass(frozen=True)
class Evaluation:
    """Labelled images to measure on. size: (height, width) of the image, null for its own. keep_ratio: see `Target`.
    window, stride: (height, width) of windows that the network is shown in its place, null for the whole image; a
    stride of null is half a window. window_batch: windows shown at a time. flip: average with the mirror image. See
    blda/models/test_time_augmentation.py."""

    reader: Component
    rename: dict[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    keep_ratio: bool = False
    window: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    window_batch: int = 4
    flip: bool = False
    every: int = 2000
    protocols: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.stride is not None and self.window is None:
            raise ValueError("evaluation.stride is of windows; give evaluation.window too, or leave it out")


@dataclass(frozen=True)
class Data:
    """on_error: what training does at a frame whose files cannot be used: 'stop', or 'skip' it for another frame,
    counted and reported. on_unseen: what it does when no label of the source shows a class that is scored: 'stop', or
    'warn', for trials with a few images. cache: folder for class statistics, null for `<run>/cache`; runs may share it.
    draws: 'epochs' shows every frame once an epoch, takes frames of `rare.min_pixels` on for a class, and draws a crop
    at most 10 times; 'published' draws with replacement, takes frames of more than that, and draws at most 11 times.
    label_resize: 'nearest_exact' labels a pixel by the nearest centre, 'nearest' by what lies under its upper left
    corner (published), as OpenCV names them."""

    on_error: str = "stop"
    on_unseen: str = "stop"
    cache: str | None = None
    draws: str = "epochs"
    label_resize: str = "nearest_exact"

    def __post_init__(self) -> None:
        _one_of("data.on_error", self.on_error, "stop", "skip")
        _one_of("data.on_unseen", self.on_unseen, "stop", "warn")
        _one_of("data.draws", self.draws, "epochs", "published")
        _one_of("data.label_resize", self.label_resize, "nearest_exact", "nearest")


@dataclass(frozen=True)
class Hrda:
    """Two resolutions, see blda/models/hrda.py. attention: a head. detail: (height, width) of the window at full
    resolution, null for half of the source's crop. scale: of the context. stride: image pixels to a pixel of the map on
    which both are fused, published 4, with DeepLab-v2 8. strength: of the detail's own loss.
    windows: most that are encoded at once in evaluation."""

    attention: Component = field(default_factory=lambda: {"name": "segformer", "embed": 256})
    detail: tuple[int, int] | None = None
    scale: float = 0.5
    stride: int = 4
    strength: float = 0.1
    windows: int = 32


@dataclass(frozen=True)
class Model:
    """encoder: {name, ...}; head: {name, ...}; hrda: {} for two resolutions, null for one. weights: a checkpoint
    (step_*.pt, also of tools/import_weights.py) whose network training starts from, null for none. See blda/models."""

    encoder: Component
    head: Component
    hrda: Hrda | None = None
    weights: str | None = None


@dataclass(frozen=True)
class Mask:
    """Blocks of about `block` pixels, each hidden from the student with probability `ratio`."""

    block: int = 64
    ratio: float = 0.7


@dataclass(frozen=True)
class Masked(Mask):
    """Images of a loss of their own. domains: 'target', or 'both' for every other image from the source, with its
    label. jitter: jitter and blur them before."""

    domains: str = "target"
    jitter: bool = True

    def __post_init__(self) -> None:
        _one_of("self_training.masked.domains", self.domains, "target", "both")


@dataclass(frozen=True)
class SelfTraining:
    """METHOD 6. momentum: of the teacher. ignore_top, ignore_bottom: rows of the target crop without pseudo-label.
    margins: top, bottom, left and right of the whole resized target image without pseudo-label, wherever the crop lies,
    null for none. masked: a third loss, on masked target images (MIC), null for none.
    burn_in: steps on the source alone before, for networks without pretrained weights.
    augment: 'per_image' jitters with torchvision's operations, decided for each image; 'published' with kornia 0.5.8's,
    which are stronger, decided for a batch. mixer: {name, keyword: value}, what makes the mixed image. classmix:
    'per_image' pastes half of an image's classes; 'per_batch' half of those of the whole batch, ignored pixels among
    them (published)."""

    momentum: float = 0.999
    threshold: float = 0.968
    ignore_top: int = 0
    ignore_bottom: int = 0
    strength: float = 0.2
    jitter: float = 0.8
    blur: float = 0.5
    margins: tuple[int, int, int, int] | None = None
    masked: Masked | None = None
    burn_in: int = 0
    augment: str = "per_image"
    mixer: Component = field(default_factory=lambda: {"name": "classmix"})
    classmix: str = "per_image"

    def __post_init__(self) -> None:
        _one_of("self_training.augment", self.augment, "per_image", "published")
        _one_of("self_training.classmix", self.classmix, "per_image", "per_batch")


@dataclass(frozen=True)
class FeatureDistance:
    """Distance of the encoder's features to those of its pretrained weights, on things of the source (METHOD 6).
    strength: lambda. min_ratio: share of a feature's pixels that are of one thing. things: names of classes, of which
    the run may lack some."""

    strength: float = 0.005
    min_ratio: float = 0.75
    things: tuple[str, ...] = THINGS


@dataclass(frozen=True)
class Density:
    """Cumulative-density regression (METHOD 5). strength: lambda. power: 2 (paper) or 1 (its code)."""

    strength: float = 0.2
    power: int = 2


@dataclass(frozen=True)
class Reweighting:
    """Of the method `reweighted`: a class weighs 1 / share^power."""

    power: float = 0.5


@dataclass(frozen=True)
class Blda:
    """METHOD 3 and 4. warmup: updates until the statistics' momentum is reached. correct_target: False corrects source
    pixels only. by_belief: count pseudo-labelled pixels by what the teacher believes, not by its likeliest class.
    density: cumulative-density regression, null for none."""

    tau: float = 0.1
    components: int = 5
    momentum: float = 0.99
    warmup: int = 1500
    min_pixels: int = 100
    correct_target: bool = True
    by_belief: bool = False
    density: Density | None = None


@dataclass(frozen=True)
class Optimizer:
    """AdamW with a linear warm-up, then linear decay to zero. no_decay: weights that do not decay, `norms` or, as
    published, only `encoder_layer_norms`. clip: largest gradient norm, null for none."""

    lr: float = 6e-5
    head_factor: float = 10.0
    weight_decay: float = 0.01
    no_decay: str = "norms"
    warmup: int = 1500
    clip: float | None = None

    def __post_init__(self) -> None:
        if self.no_decay not in ("norms", "encoder_layer_norms"):
            raise ValueError(f"optimizer.no_decay is '{self.no_decay}'; use norms or encoder_layer_norms")


@dataclass(frozen=True)
class Training:
    """batch: images of each domain per process and pass. accumulate: passes per step. precision: no, bf16 or fp16.

    checkpoint_every: steps between checkpoints; the last `keep` are kept. workers: loader processes per domain.
    channels_last: keep the network's convolutions in that layout. compile: the student's forward, by torch.compile.
    checkpointing: the network's blocks run again in the backward instead of keeping what they computed. cuda_graphs:
    capture the networks' passes once and replay them, where the host is slower than the GPU; for one process, without
    hrda, compile and checkpointing (blda/models/cuda_graphs.py). deterministic: sums on a GPU in a fixed order, slower.
    """

    steps: int = 40000
    batch: int = 2
    accumulate: int = 1
    precision: str = "no"
    workers: int = 4
    checkpoint_every: int = 2000
    keep: int = 2
    channels_last: bool = False
    compile: bool = False
    checkpointing: bool = False
    cuda_graphs: bool = False
    deterministic: bool = False


@dataclass(frozen=True)
class Log:
    """every: steps between lines of numbers. pictures: steps between pictures. bar: show the progress bar."""

    every: int = 50
    pictures: int = 1000
    bar: bool = True


@dataclass(frozen=True)
class Config:
    """One run of image adaptation. run: its folder. classes: a named list or the names. method: source_only,
    self_training, reweighted or blda. compare: methods that are trained first, alike, for the closing table.
    resolution: by which every length in pixels is multiplied, see blda/config/resolution.py."""

    run: str
    model: Model
    source: Source
    target: Target
    evaluation: Evaluation
    classes: Any = "cityscapes19"
    method: str = "blda"
    compare: tuple[str, ...] = ()
    seed: int = 0
    resolution: float = 1.0
    data: Data = Data()
    self_training: SelfTraining = SelfTraining()
    feature_distance: FeatureDistance | None = None
    blda: Blda = Blda()
    reweighting: Reweighting = Reweighting()
    optimizer: Optimizer = Optimizer()
    training: Training = Training()
    log: Log = Log()

    def resolved(self: C) -> C:
        """The same run at resolution 1, its lengths multiplied."""
        return at_resolution(self)
